"""Forecasts that were written down before their sweep existed: sealed, read back, and held against what the sweep found."""

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
    "scored": "held against its sweep",
    "altered": "its file is not the one that was sealed; it counts for nothing",
    "late": "its sweep had begun before; it counts for nothing",
}


@dataclass(frozen=True, kw_only=True)
class PreregisteredForecast:
    """One forecast of a frontier's next budget, and how it did."""

    run_id: str
    budget: str
    made: pd.Timestamp
    forecast: Forecast
    state: State
    observed: float | None = None
    """Lowest loss that the sweep found, and its run, where the forecast was scored."""
    observed_run_id: str = ""
    score: Score | None = None


def make_forecast(store: Store, frontier: Frontier, budget: str) -> Forecast:
    """The lowest loss at a budget beyond those of the frontier.

    `InputError` where there are too few budgets or it is not beyond them, and where a sweep of it has been started for the
    same question: what is known is not foretold.
    """
    at, largest = _count(budget), frontier.entries[-1]
    begun = _sweeps(store, frontier)
    fix = "its sweep has been started for this question; a forecast must come first. Name a larger budget."
    require(len(begun) == 0 or at not in set(begun["budget"].map(_count)), "BUDGET", budget, fix)
    where = f"{frontier.experiment}, horizon {frontier.horizon},"
    fix = f"not beyond the {largest.budget} of {where[:-1]}; only larger budgets are foretold."
    require(at > largest.n_params, "BUDGET", budget, fix)
    there = ", ".join(entry.budget for entry in frontier.entries)
    fix = f"{where} has {there} only; a forecast takes {FEWEST} budgets, sweep more first."
    require(len(frontier.entries) >= FEWEST, "BUDGET", budget, fix)
    sizes, losses, errors = frontier_points(frontier)
    return forecast(sizes, losses, at, error=errors)


def register_forecast(store: Store, frontier: Frontier, budget: str, made: Forecast) -> str:
    """Write a forecast as a run of its own; returns the run id."""
    # Loads MLflow's client, which readers of a store need not wait for.
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
        "forecast": json.loads(made.to_json()),
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
            schema.SEAL: _seal_of(text),
            schema.NOTE: f"{QUANTITY} at {budget}: {made.loss:.4f}, 95% [{made.low:.4f}, {made.high:.4f}]",
            **provenance({}).tags("analysis.forecast"),
        },
    )
    log.artifacts(lambda folder: _write_text(folder / schema.FORECAST_FILE, text))
    log.finish("complete", metrics={"forecast/loss": made.loss, "forecast/low": made.low, "forecast/high": made.high})
    return log.run_id


def load_forecasts(store: Store, frontiers: Sequence[Frontier]) -> dict[tuple[str, int], list[PreregisteredForecast]]:
    """All forecasts by the frontier's key, oldest first."""
    if not frontiers:
        return {}
    runs = query.runs(store, kinds=("forecast",))
    if runs.empty:
        return {}
    done = runs[runs[schema.OUTCOME] == "complete"]
    return {frontier.key: _of(store, frontier, done) for frontier in frontiers}


def _of(store: Store, frontier: Frontier, runs: pd.DataFrame) -> list[PreregisteredForecast]:
    same = (runs[schema.STUDY_FINGERPRINT] == frontier.study) & (runs["horizon"] == frontier.horizon)
    mine = runs[same & (runs["context_length"] == frontier.context_length)]
    return [_judged(store, frontier, run) for run in mine.to_dict("records")] if len(mine) else []


def _judged(store: Store, frontier: Frontier, run: dict[Any, Any]) -> PreregisteredForecast:
    text = Path(store.local_artifact(run["run_id"], schema.FORECAST_FILE)).read_text()
    budget = str(run["budget"])
    common = {
        "run_id": run["run_id"],
        "budget": budget,
        "made": pd.Timestamp(run["started"], unit="ms"),
        "forecast": _forecast_in(text),
    }
    if _seal_of(text) != run[schema.SEAL]:
        return PreregisteredForecast(**common, state="altered")
    sweeps = _sweeps(store, frontier)
    its = sweeps[sweeps["budget"].map(_count) == _count(budget)] if len(sweeps) else sweeps
    if len(its) and its["started"].min() <= run["started"]:
        return PreregisteredForecast(**common, state="late")
    found = next((entry for entry in frontier.entries if _count(entry.budget) == _count(budget)), None)
    if found is None or not (its[schema.OUTCOME] == "complete").any():
        return PreregisteredForecast(**common, state="open")
    scored = score(common["forecast"], found.val_loss)
    return PreregisteredForecast(**common, state="scored", observed=found.val_loss, observed_run_id=found.run_id, score=scored)


def _forecast_in(text: str) -> Forecast:
    return Forecast.from_json(json.dumps(json.loads(text)["forecast"]))


def _sweeps(store: Store, frontier: Frontier) -> pd.DataFrame:
    """Sweeps of the question, running ones too: columns budget, started, outcome."""
    table = query.runs(store, kinds=("sweep",), experiment=frontier.experiment)
    if table.empty:
        return table
    table = table.reindex(columns=[*table.columns, *({schema.OUTCOME} - set(table.columns))])
    same = (table[schema.STUDY_FINGERPRINT] == frontier.study) & (table["context_length"] == frontier.context_length)
    return table[same & (table["horizon"] == frontier.horizon)]


def _count(budget: str) -> int:
    return parse_count(str(budget), "BUDGET", "parameters")


def _seal_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
