from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import scaling
from analysis.laws import budgets, observations, validate
from analysis.options import ScalingOptions
from research.errors import InputError


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Write a table of a grid of sizes and lengths, with one of two architectures for each row."""
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 5)))
    noise = 0.003 * np.random.default_rng(0).normal(size=len(n))
    loss = (1.8 + 400 / n**0.34 + 1200 / d**0.3) * np.exp(noise)
    path = tmp_path / "runs.csv"
    arch = ["deep" if row % 2 else "wide" for row in range(len(n))]
    pd.DataFrame({"params": n, "tokens": d, "val_loss": loss, "arch": arch}).to_csv(path, index=False)
    return path


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Write a table of five seeds of four budgets with a constant loss."""
    n = np.repeat([2e6, 2e7, 2e8, 2e9], 5)
    path = tmp_path / "seeds.csv"
    loss = 0.6 * (1 + 0.01 * np.random.default_rng(4).normal(size=20))
    pd.DataFrame({"n": n, "loss": loss}).to_csv(path, index=False)
    return path


def options(path: Path, **more: object) -> ScalingOptions:
    return ScalingOptions(**({"csv": path, "n": "params", "loss": "val_loss", "bootstrap": 50} | more))  # type: ignore[arg-type]


def report_of(options: ScalingOptions, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    scaling.main(options)
    (line,) = capsys.readouterr().out.splitlines()
    report: dict[str, object] = json.loads(line)
    return report


def test_json_is_one_object_with_the_fit_and_its_uncertainty(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(options(runs, d="tokens", law="chinchilla", json=True), capsys)
    names = {"E", "A", "B", "alpha", "beta"}
    assert report["law"] == "chinchilla"
    for key in ("params", "intervals", "standard_errors"):
        assert set(report[key]) == names  # type: ignore[call-overload]
    assert report["params"]["alpha"] == pytest.approx(0.34, abs=0.05)  # type: ignore[index]
    assert 0 < report["objective"] < 30 * 1e-3 * 0.01  # type: ignore[operator]
    assert report["flags"] == []
    assert report["n_points"] == 30
    assert [fit["law"] for fit in report["candidates"]] == ["constant", "chinchilla"]  # type: ignore[attr-defined]
    assert report["verdict"] is None


def test_all_chooses_by_held_out_budgets(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(options(runs, d="tokens", json=True), capsys)
    scores = {fit["law"]: fit["held_out_error"] for fit in report["candidates"]}  # type: ignore[attr-defined]
    assert report["law"] == report["chosen"]
    assert report["law"] in ("chinchilla", "chinchilla_tied", "overfitting")
    assert scores["chinchilla"] < 0.01 < scores["constant"]
    assert scores["log_parabola"] is None


def test_the_largest_budget_is_held_out_on_request(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(options(runs, d="tokens", law="chinchilla", holdout_largest=True, json=True), capsys)
    (window,) = report["validation"]["windows"]  # type: ignore[index]
    assert report["n_points"] == 25
    assert window["held_out"] == pytest.approx(1e10)
    assert window["fitted_to"] < 3e9
    assert abs(window["signed_error"]["chinchilla"]) < 0.01 < abs(window["signed_error"]["constant"])


def test_a_cluster_column_draws_architectures_and_not_rows(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(options(runs, d="tokens", law="chinchilla", cluster="arch", json=True), capsys)
    assert report["bootstrap"] == {"resamples": 50, "clusters": len(pd.read_csv(runs).groupby(["params", "arch"]))}


def test_a_table_of_seeds_gets_a_verdict_and_the_constant_law(seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(options(seeds, n="n", loss="loss", json=True), capsys)
    assert report["law"] == "constant"
    assert report["verdict"]["claim"] == "equivalent"  # type: ignore[index]
    assert report["verdict"]["detectable"] > 0  # type: ignore[index]
    scaling.main(options(seeds, n="n", loss="loss"))
    shown = capsys.readouterr().out
    assert "verdict equivalent: size changes the loss by less than 1.0% per tenfold" in shown
    assert "held-out budgets" in shown


def test_form_and_seeds_widen_the_interval_of_the_parameters() -> None:
    rng = np.random.default_rng(0)
    n = np.repeat(np.geomspace(1e6, 1e9, 7), 3)
    validation = validate(
        observations(n=n, loss=(1.8 + 60 / n**0.25) * np.exp(0.005 * rng.normal(size=21))), "all", resamples=200
    )
    assert len(validation.windows) == 4
    assert validation.coverage >= 0.85
    assert validation.coverage_of_parameters < validation.coverage
    assert validation.scores["constant"] > 5 * validation.scores[validation.chosen]


def test_flat_losses_choose_the_constant_law_over_a_better_fit() -> None:
    rng = np.random.default_rng(1)
    n = np.repeat(np.geomspace(1e6, 1e9, 7), 3)
    validation = validate(observations(n=n, loss=0.6 * np.exp(0.01 * rng.normal(size=21))), resamples=50)
    assert validation.chosen == "constant"


def test_near_sizes_are_one_budget_and_a_continuum_is_cut_into_eight() -> None:
    assert budgets(np.array([2.1e6, 1.9e6, 2e7, 2.2e7, 2e8])).tolist() == [0, 0, 1, 1, 2]
    cut = budgets(np.geomspace(1e6, 1e9, 160))
    assert np.bincount(cut).tolist() == [20] * 8


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"n": None}, "N=: name the column"),
        ({"loss": None}, "LOSS=: name the column"),
        ({"n": "size"}, "N=size: no such column; runs.csv has params, tokens, val_loss, arch"),
        ({"loss": "arch"}, "arch=wide: line 2 of runs.csv is no number"),
        ({"cluster": "family"}, "CLUSTER=family: no such column"),
        ({"law": "cubic"}, "LAW=cubic: no such law; give one of constant, power"),
        ({"law": "chinchilla"}, "needs the tokens D"),
        ({"law": "broken"}, "6 distinct points of N cannot determine 6 parameters"),
        ({"law": "power", "delta": -1.0}, "DELTA=-1.0"),
        ({"law": "power", "bootstrap": 0}, "BOOTSTRAP=0"),
        ({"csv": Path("gone.csv")}, "CSV=gone.csv: no such file"),
        ({"csv": None}, "--n=params: it names a column of a table; give the table with --csv"),
    ],
)
def test_a_wrong_request_is_one_sentence(runs: Path, more: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as raised:
        scaling.main(options(runs, **more))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("params,val_loss\n1e6,0.5\n1e7,-0.4\n", "val_loss=-0.4: line 3 of table.csv is not above zero"),
        ("params,val_loss\n1e6,0.5\n1e7,nan\n", "val_loss=nan: line 3"),
        ("params,val_loss\n1e6,0.5\n1e7\n", "val_loss=None: line 3"),
        ("params,val_loss\n1e6,0.5\n1e6,0.4\n1e6,0.45\n", "the same in every row"),
        ("params,val_loss\n1e6,0.5\n1e7,0.4\n", "2 distinct points of N cannot determine 2 parameters; give at least 3"),
        ("params,val_loss\n", "no rows"),
        ("", "no rows"),
    ],
)
def test_a_table_that_cannot_be_fitted_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        scaling.main(options(path, law="power"))
    assert words in str(raised.value)


def test_the_functions_load_no_store_no_network_and_no_figures() -> None:
    code = (
        "import sys\n"
        "from analysis.scaling import fit_laws, bootstrap, forecast, verdict\n"
        "print(*{name.partition('.')[0] for name in sys.modules} & {'mlflow', 'torch', 'matplotlib', 'pandas', 'optuna'})\n"
        "print(forecast([1e6, 1e7, 1e8], [3.0, 2.9, 2.8], 1e9).loss)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, loss = ran.stdout.split("\n")[:2]
    assert loaded == ""
    assert 2.4 < float(loss) < 2.9


def test_an_unknown_name_of_the_module_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fit_lines'"):
        scaling.fit_lines  # noqa: B018
