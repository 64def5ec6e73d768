"""Forecasts registered before their sweep existed: made, stored, loaded and scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from analysis.laws.forecasting import FEWEST, Forecast, Score, forecast, score
from analysis.results.frontier import Frontier
from analysis.results.scaling_verdict import frontier_points
from research.counts import parse_count
from research.errors import require
from research.tracking import query, schema
from research.tracking.store import Store

State = Literal["open", "scored", "altered", "late"]
QUANTITY = "lowest val_loss of the sweep's trials"
MEANINGS: dict[State, str] = {
    "open": "its sweep has not ended",
    "scored": "compared with its sweep",
    "altered": "its file was changed after it was registered; the forecast is invalid",
    "late": "its sweep had started before it was registered; the forecast is invalid",
}


@dataclass(frozen=True, kw_only=True)
class PreregisteredForecast:
    """A registered forecast of a frontier's next budget, with its score."""

    run_id: str
    budget: str
    made: pd.Timestamp
    forecast: Forecast
    state: State
    observed: float | None = None
    """Lowest loss of the sweep; None unless the forecast was scored."""
    observed_run_id: str = ""
    """Run with the lowest loss; empty unless the forecast was scored."""
    score: Score | None = None


def make_forecast(store: Store, frontier: Frontier, budget: str) -> Forecast:
    """Return a forecast of the lowest loss at a budget beyond those of the frontier.

    `InputError` if there are too few budgets, if this one is not beyond them, or if its sweep has been started for the
    same question.
    """
    size, largest = _count(budget), frontier.entries[-1]
    sweeps = _sweeps(store, frontier)
    fix = "its sweep has been started for this question; a forecast must come first. Name a larger budget."
    require(len(sweeps) == 0 or size not in set(sweeps["budget"].map(_count)), "BUDGET", budget, fix)
    question = f"{frontier.experiment}, horizon {frontier.horizon}"
    fix = f"not beyond the {largest.budget} of {question}; give a larger budget."
    require(size > largest.n_params, "BUDGET", budget, fix)
    budgets = ", ".join(entry.budget for entry in frontier.entries)
    fix = f"{question}, has {budgets} only; a forecast needs {FEWEST} budgets, sweep more first."
    require(len(frontier.entries) >= FEWEST, "BUDGET", budget, fix)
    sizes, losses, errors = frontier_points(frontier)
    return forecast(sizes, losses, size, error=errors)


def register_forecast(store: Store, frontier: Frontier, budget: str, prediction: Forecast) -> str:
    """Write a forecast as a run of its own, with the digest of its file as a tag, and return the run id."""
    # Imported here because it loads MLflow's client, which slows down readers of a store.
    from research.tracking.provenance import provenance
    from research.tracking.run_writer import RunLog

    statement = {
        "study": frontier.study,
        "horizon": frontier.horizon,
        "context_length": frontier.context_length,
        "budget": budget,
        "quantity": QUANTITY,
        "made_from": [entry.run_id for entry in frontier.entries],
        "trials": [entry.complete for entry in frontier.entries],
        "forecast": json.loads(prediction.to_json()),
    }
    text = json.dumps(statement, indent=2, sort_keys=True) + "\n"
    log = RunLog.start(
        store,
        experiment_id=store.experiment(frontier.experiment),
        kind="forecast",
        name=f"forecast {budget}-h{frontier.horizon}",
        params={"budget": budget, "horizon": frontier.horizon, "context_length": frontier.context_length},
        tags={
            schema.STUDY_FINGERPRINT: frontier.study,
            schema.SEAL: _digest(text),
            schema.NOTE: f"{QUANTITY} at {budget}: {prediction.loss:.4f}, 95% [{prediction.low:.4f}, {prediction.high:.4f}]",
            **provenance({}).tags("analysis.forecast"),
        },
    )
    log.artifacts(lambda folder: _write_text(folder / schema.FORECAST_FILE, text))
    metrics = {"forecast/loss": prediction.loss, "forecast/low": prediction.low, "forecast/high": prediction.high}
    log.finish("complete", metrics=metrics)
    return log.run_id


def load_forecasts(store: Store, frontiers: Sequence[Frontier]) -> dict[tuple[str, int], list[PreregisteredForecast]]:
    """Return all complete forecasts by the frontier's key, oldest first."""
    if not frontiers:
        return {}
    runs = query.runs(store, kinds=("forecast",))
    if runs.empty:
        return {}
    complete = runs[runs[schema.OUTCOME] == "complete"]
    return {
        frontier.key: [_scored(store, frontier, run) for run in _of_question(complete, frontier).to_dict("records")]
        for frontier in frontiers
    }


def _scored(store: Store, frontier: Frontier, run: dict[Any, Any]) -> PreregisteredForecast:
    """Return the forecast of a run with its state, and its score if its sweep has ended."""
    text = Path(store.local_artifact(run["run_id"], schema.FORECAST_FILE)).read_text()
    budget = str(run["budget"])
    common = {
        "run_id": run["run_id"],
        "budget": budget,
        "made": pd.Timestamp(run["started"], unit="ms"),
        "forecast": Forecast.from_json(json.dumps(json.loads(text)["forecast"])),
    }
    if _digest(text) != run[schema.SEAL]:
        return PreregisteredForecast(**common, state="altered")
    sweeps = _sweeps(store, frontier)
    own = sweeps[sweeps["budget"].map(_count) == _count(budget)] if len(sweeps) else sweeps
    if len(own) and own["started"].min() <= run["started"]:
        return PreregisteredForecast(**common, state="late")
    entry = next((entry for entry in frontier.entries if _count(entry.budget) == _count(budget)), None)
    if entry is None or not (own[schema.OUTCOME] == "complete").any():
        return PreregisteredForecast(**common, state="open")
    result = score(common["forecast"], entry.val_loss)
    return PreregisteredForecast(**common, state="scored", observed=entry.val_loss, observed_run_id=entry.run_id, score=result)


def _sweeps(store: Store, frontier: Frontier) -> pd.DataFrame:
    """Return the sweeps of the question, running ones included: columns budget, started, outcome."""
    table = query.runs(store, kinds=("sweep",), experiment=frontier.experiment)
    if table.empty:
        return table
    return _of_question(table.reindex(columns=[*table.columns, *({schema.OUTCOME} - set(table.columns))]), frontier)


def _of_question(runs: pd.DataFrame, frontier: Frontier) -> pd.DataFrame:
    same = (runs[schema.STUDY_FINGERPRINT] == frontier.study) & (runs["context_length"] == frontier.context_length)
    return runs[same & (runs["horizon"] == frontier.horizon)]


def _count(budget: str) -> int:
    return parse_count(str(budget), "BUDGET", "parameters")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
