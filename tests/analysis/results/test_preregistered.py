"""A forecast is scored only if it was registered before its sweep and not changed since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis import forecast as verb
from analysis.figures.style import report_path
from analysis.options import ForecastOptions
from analysis.report.inputs import titles
from analysis.results.frontier import Frontier, frontiers
from analysis.results.preregistered import load_forecasts, make_forecast, register_forecast
from research.errors import InputError
from research.tracking import query, schema
from research.tracking.store import Store, open_store
from tests.support.small_store import add_run, add_sweep
from tests.support.verbs import commands_to_type


@pytest.fixture
def store(store_root: Path) -> Store:
    """Return a store with finished sweeps of three budgets of one question."""
    store = open_store(store_root)
    for budget, loss in (("2K", 0.50), ("8K", 0.49), ("32K", 0.48)):
        add_sweep(store, budget=budget)
        for number, by in ((0, "random"), (1, "random"), (2, "tpe")):
            add_run(store, f"000{number} d4 L2 h1 ff2", budget=budget, loss=loss + 0.01 * number, by=by)
    add_run(store, "prior", kind="baseline", loss=0.69)
    return store


def only(store: Store) -> Frontier:
    (frontier,) = frontiers(store, None)
    return frontier


def predict(store: Store, budget: str) -> str:
    return register_forecast(store, only(store), budget, make_forecast(store, only(store), budget))


def sweep(store: Store, budget: str, loss: float, *, outcome: schema.Outcome | None = "complete") -> None:
    add_sweep(store, budget=budget, outcome=outcome)
    add_run(store, "0000 d8 L2 h1 ff2", budget=budget, loss=loss)


def test_a_forecast_is_open_until_its_sweep_ends_and_then_scored(store: Store) -> None:
    run_id = predict(store, "128K")
    (open_forecast,) = load_forecasts(store, [only(store)])["study of 1", 60]
    assert (open_forecast.run_id, open_forecast.state, open_forecast.score) == (run_id, "open", None)
    sweep(store, "128K", 0.47)
    (scored,) = load_forecasts(store, [only(store)])["study of 1", 60]
    assert scored.state == "scored"
    assert scored.observed == 0.47
    assert scored.score is not None
    assert scored.score.inside == (scored.forecast.low <= 0.47 <= scored.forecast.high)


def test_another_context_is_another_question(store: Store, tmp_path: Path) -> None:
    run_id = predict(store, "128K")
    for budget in ("2K", "8K", "32K"):
        add_run(store, "0000 d4 L2 h1 ff2", budget=budget, loss=0.6, context=30)
    questions = frontiers(store, None)
    by_context = {context: forecasts for (_, context), forecasts in load_forecasts(store, questions).items()}
    assert {context: [f.run_id for f in forecasts] for context, forecasts in by_context.items()} == {60: [run_id], 30: []}
    assert len({report_path(tmp_path, "shape", question) for question in questions}) == len(set(titles(questions))) == 2


def test_a_sweep_that_still_runs_scores_nothing(store: Store) -> None:
    predict(store, "128K")
    sweep(store, "128K", 0.47, outcome=None)
    assert [forecast.state for forecast in load_forecasts(store, [only(store)])["study of 1", 60]] == ["open"]


def test_a_budget_whose_sweep_has_started_cannot_be_forecast(store: Store) -> None:
    add_sweep(store, budget="128K", outcome=None)
    with pytest.raises(InputError, match=r"BUDGET=128000: its sweep has been started"):
        make_forecast(store, only(store), "128000")


@pytest.mark.parametrize(
    ("budget", "reason"), [("16K", "not beyond the 32K of sp500-threshold-1pct, horizon 1;"), ("many", "BUDGET=many")]
)
def test_a_budget_that_is_no_extrapolation_is_refused(store: Store, budget: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        make_forecast(store, only(store), budget)


def test_two_budgets_are_too_few(store_root: Path) -> None:
    store = open_store(store_root)
    for budget in ("2K", "8K"):
        add_run(store, "0000 d4 L2 h1 ff2", budget=budget, loss=0.5)
    with pytest.raises(InputError, match=r"threshold-1pct, horizon 1, has 2K, 8K only; a forecast needs 3 budgets"):
        make_forecast(store, only(store), "32K")


def test_a_forecast_with_a_changed_file_is_invalid(store: Store) -> None:
    run_id = predict(store, "128K")
    path = Path(store.local_artifact(run_id, schema.FORECAST_FILE))
    statement = json.loads(path.read_text())
    statement["forecast"]["low"], statement["forecast"]["high"] = 0.0, 1.0
    path.write_text(json.dumps(statement))
    sweep(store, "128K", 0.47)
    (altered,) = load_forecasts(store, [only(store)])["study of 1", 60]
    assert altered.state == "altered"
    assert altered.score is None


def test_a_forecast_registered_after_its_sweep_is_invalid(store: Store) -> None:
    late = make_forecast(store, only(store), "128K")
    sweep(store, "128K", 0.47)
    first = frontiers(store, None)[0]
    register_forecast(store, first, "128K", late)
    assert [forecast.state for forecast in load_forecasts(store, [only(store)])["study of 1", 60]] == ["late"]


def test_the_verb_writes_all_or_nothing(store: Store) -> None:
    # At horizon 3 the budget is not beyond the largest one, so nothing is written for horizon 1 either.
    for budget in ("2K", "8K", "512K"):
        add_run(store, "0000 d4 L2 h1 ff2", budget=budget, loss=0.6, horizon=3)
    with pytest.raises(InputError, match="horizon 3"):
        verb.main(ForecastOptions(store=store.root, budget="128K"))
    assert query.runs(store, kinds=("forecast",)).empty


def test_a_question_with_one_budget_does_not_stop_other_forecasts(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add_run(store, "0000 d4 L2 h1 ff2", budget="2K", loss=0.6, horizon=3)
    verb.main(ForecastOptions(store=store.root, budget="128K"))
    printed = capsys.readouterr().out
    assert "its sweep has not ended" in printed
    assert "no forecast for sp500-threshold-1pct, horizon 3: it has 2K only, a forecast needs 3 budgets." in printed
    assert commands_to_type(printed, store.root) == ["make sweep BUDGET=128K", "make forecast", "make report"]
    (run,) = query.runs(store, kinds=("forecast",)).to_dict("records")
    assert run["forecast/low"] < run["forecast/loss"] < run["forecast/high"]
