"""The report of a real store answers first, links its numbers, admits what is open, and is kept as a run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis.options import ReportOptions
from analysis.report.champions_part import section
from analysis.report.commands import DATA_DEFAULTS, DEFAULTS, RANGES, VARIABLES, settings_of
from analysis.report.data_part import test_days as days_told
from analysis.report.document import Table
from analysis.report.inputs import champions, read_inputs, titles
from analysis.report.report import main
from pipelines.options import SweepOptions
from research.task.build import BUNDLED_ENDS
from research.tracking import query, schema
from research.tracking.champion_history import make_champion
from research.tracking.registry import register_apart, version_of
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store
from tests.support.invented import entry, frontier
from tests.support.small_store import add_run, add_sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, migrated_store: Path) -> tuple[Store, Path, str]:
    """A store of three budgets whose losses do not fall, its report, and what was printed."""
    root = Path(shutil.copytree(migrated_store, tmp_path_factory.mktemp("report") / "mlruns"))
    store = open_store(root)
    for budget in ("2K", "8K", "32K"):
        add_sweep(store, budget=budget)
        for number, by in enumerate(("random", "random", "tpe")):
            name = f"000{number} d4 L{number + 1} h1 ff2"
            add_run(store, name, budget=budget, loss=0.5 + 0.01 * number, by=by, shape=(number + 1, 4, 1, 8))
    add_run(store, "prior", kind="baseline", loss=0.69)
    add_run(store, "logistic", kind="baseline", loss=0.45, skilful=0.1)
    main(ReportOptions(store=root))
    folder = root / "reports" / "report-all"
    return store, folder, (folder / "report.md").read_text()


def test_the_answer_stands_first(made: tuple[Store, Path, str]) -> None:
    answer = made[2].split("## ")[0]
    assert "Horizon 1" in answer
    assert re.search(r"No evidence of scaling|No: a tenfold size", answer)
    assert "No budget beats the strongest baseline, logistic at 0.4500" in answer


def test_losses_lead_to_their_runs(made: tuple[Store, Path, str]) -> None:
    store, _, page = made
    linked = dict(re.findall(r"\[([\d.]+)\]\(http://127\.0\.0\.1:5000/#/experiments/\d+/runs/(\w+)\)", page))
    runs = query.runs(store, kinds=("trial", "baseline")).set_index("run_id")["val_loss"]
    assert {"0.5000", "0.4500", "0.6900"} <= set(linked)
    assert all(f"{runs[run_id]:.4f}" == told for told, run_id in linked.items())


def test_what_is_open_is_said_with_a_way_to_settle_it(made: tuple[Store, Path, str]) -> None:
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", made[2], flags=re.MULTILINE | re.DOTALL))
    assert "predicts better than the simplest regression" in sections["What was not established"]
    assert "not opened" in sections["What was not established"]
    assert f"REPLICATES=3 STORE={made[0].root}   # fresh seeds" in sections["What to run next"]


def test_the_next_commands_ask_the_same_question_of_the_same_data(made: tuple[Store, Path, str]) -> None:
    told = next(line for line in made[2].splitlines() if line.endswith("# fresh seeds"))
    assert told.startswith("make sweep BUDGET=2K HORIZON=1 DATA=0123456789abcdef SYMBOLS='^GSPC'")
    assert "LAYERS='1,2'" in told
    longer = next(line for line in made[2].splitlines() if line.endswith("# a longer lever for the slope"))
    assert longer.startswith("make sweep BUDGET=256K HORIZON=1 DATA=0123456789abcdef")
    assert "LAYERS" not in longer


def test_what_only_a_flag_sets_is_in_the_command() -> None:
    run = {schema.SNAPSHOT_DIGEST: "0123", schema.STARTS: '[{"trials": 3}]', **dict.fromkeys(RANGES, "1 .. 2")}
    told = [
        settings_of(SimpleNamespace(sure=[]), {**run, "window_norm": normed, "family": family}, ())["ARGS"]  # type: ignore[arg-type]
        for normed, family in ((True, "mixer"), (False, "transformer"))
    ]
    assert told[0] == f"{told[1]} --window-norm --family mixer"
    assert told[1].endswith("--random-share 1 2")


def test_a_default_that_is_left_out_is_what_a_sweep_takes() -> None:
    names = {variable: name for name, variable in VARIABLES.items()} | {"TRIALS": "trials"}
    fields = {"feature_set": "features", "context_length": "context"}
    options = SweepOptions()
    for variable, value in DEFAULTS.items():
        if variable not in ("ARGS", "TOUCH", "OPTIMIZER"):
            assert str(getattr(options, fields.get(names[variable], names[variable]))) == value
    ranges = " ".join(f"--{flag} {_typed(getattr(options, flag.replace('-', '_')))}" for flag in RANGES.values())
    assert ranges == DEFAULTS["ARGS"]
    assert tuple(DATA_DEFAULTS[name] for name in ("TRAIN_END", "VALIDATION_END", "TEST_END")) == tuple(map(str, BUNDLED_ENDS))


def _typed(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def test_looks_at_the_test_days_are_told(store_root: Path) -> None:
    store = open_store(store_root)
    add_sweep(store)
    add_run(store, "0000 d4 L2 h1 ff2", loss=0.5)
    tags = {schema.TARGET_DIGEST: "labels of 1"}
    for second in ({}, {schema.SECOND_LOOK: "1 before"}):
        experiment = store.experiment("sp500-threshold-1pct")
        RunLog.start(
            store, experiment_id=experiment, kind="evaluation", name="evaluation", params={}, tags={**tags, **second}
        ).finish("complete")
    main(ReportOptions(store=store.root, log=False))
    page = (store.root / "reports" / "report-all" / "report.md").read_text()
    assert "the test days were opened 2 times by \\`make evaluate\\`, 1 of them again for the same final run" in page
    assert "not opened" not in page


def test_looks_of_other_questions_are_told_even_where_there_was_none_of_ones_own(store_root: Path) -> None:
    store = open_store(store_root)
    add_sweep(store)
    add_run(store, "0000 d4 L2 h1 ff2", loss=0.5)
    days = {"validation_end": "2015-06-30", "test_start": "2015-07-01", "test_end": "2018-12-31"}
    asked = {"task": "threshold", "threshold": 0.01, "touch": "high"}
    for horizon, symbol in ((3, "^GSPC"), (3, "^GSPC"), (5, "SPY")):
        params = {**days, **asked, "horizon": horizon, "symbol": symbol, "validate_on": symbol}
        tags = {schema.TARGET_DIGEST: f"labels of {horizon}"}
        experiment = store.experiment("sp500-threshold-1pct")
        RunLog.start(store, experiment_id=experiment, kind="evaluation", name="e", params=params, tags=tags).finish("complete")
    (question,) = read_inputs(store, None, "http://127.0.0.1:5000").questions
    told = "not opened for this question. Other questions used them: sp500-threshold-1pct h3 (2)."
    assert days_told(question).endswith(told)


def test_it_can_be_done_again(made: tuple[Store, Path, str]) -> None:
    (command,) = re.findall(r"^make study .*$", made[2], flags=re.MULTILINE)
    assert "BUDGETS=2K,8K,32K HORIZONS=1 DATA=0123456789abcdef" in command
    assert "TRIALS=12" in command
    assert "--batch-sizes 1 2" in command


def test_every_figure_has_its_numbers_beside_it(made: tuple[Store, Path, str]) -> None:
    _, folder, page = made
    shown = re.findall(r"\((figures/[^)]+)\.png\)", page)
    assert len(shown) >= 4
    for name in shown:
        assert {path.suffix for path in (folder / "figures").glob(f"{Path(name).name}.*")} == {".png", ".pdf", ".csv"}


def test_how_well_budgets_foretold_each_other_is_drawn(made: tuple[Store, Path, str]) -> None:
    drawn = {figure.name.split("-")[0] for figure in (made[1] / "figures").glob("*.png")}
    # A budget is foretold from three others, which this store does not have; their distance to one line is there.
    assert {"frontier", "shape", "learning", "calibration", "residuals"} <= drawn


def test_it_is_kept_as_a_run(made: tuple[Store, Path, str]) -> None:
    store, folder, page = made
    (run,) = query.runs(store, kinds=("report",)).to_dict("records")
    assert Path(store.local_artifact(run["run_id"], "report.html")).read_text() == (folder / "report.html").read_text()
    assert store.client.get_run(run["run_id"]).data.tags[schema.NOTE] == page[:5000]


def test_titles_are_as_short_as_they_still_differ() -> None:
    first, third = frontier(entry(1000, 0.4)), frontier(entry(1000, 0.4), horizon=3)
    assert titles([first, third]) == ["Horizon 1", "Horizon 3"]
    assert len(set(titles([first, first, third]))) < 3


def test_the_model_in_use_is_told_with_its_gates(store_root: Path) -> None:
    store = open_store(store_root)
    experiment = store.experiment("sp500-threshold-1pct")
    final, evaluation = (
        RunLog.start(store, experiment_id=experiment, kind=kind, name=kind, params={}, tags={schema.TARGET_DIGEST: "t"})
        for kind in ("final", "evaluation")
    )
    final.finish("complete")
    evaluation.finish("complete", metrics={"test_skill": 0.123})
    name = "sp500-threshold-1pct-2K-h1"
    register_apart(store, name=name, run_id=final.run_id, val_loss=0.5, study="s", description="d")
    version = version_of(store, final.run_id)
    assert version is not None
    gates = {"gates": [{"name": "beats logistic", "passed": False}]}
    store.client.set_model_version_tag(name, version.version, schema.GATES, json.dumps(gates))
    make_champion(store, version, final=final.run_id, evaluation=evaluation.run_id, forced=["beats logistic"])
    evaluations = query.runs(store, kinds=("evaluation",))
    assert champions(store, evaluations, {"sp500-direction"}) == []
    (table,) = section(champions(store, evaluations, {"sp500-threshold-1pct"})).blocks
    assert isinstance(table, Table)
    ((*told, skill, judged),) = table.rows
    assert told[:3] == [name, "1", final.run_id[:12]]
    assert (skill, judged) == ("+0.123", "not passed: beats logistic")
