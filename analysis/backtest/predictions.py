"""Input of a backtest: one run's stored predictions, those of its references on the same rows, and their bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.options import BacktestOptions
from research.data.dividend_adjustment import adjusted
from research.data.snapshots import load_snapshot
from research.errors import InputError, require
from research.spec import TargetSpec
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.run_lookup import best_by_question, complete_runs, question_of, run_with_id
from research.tracking.spec_codec import part_from_params
from research.tracking.store import Store

Array = NDArray[np.float64]
Split = Literal["validation", "test"]
VOLATILITY, LOGISTIC = "volatility", "logistic"
REFERENCES = (VOLATILITY, LOGISTIC)
COLUMNS = ("date", "symbol", "label", "probability")
KINDS: tuple[schema.RunKind, ...] = ("trial", "replicate", "baseline", "evaluation")


@dataclass(frozen=True, kw_only=True)
class BacktestInput:
    """One run's predictions and everything that their backtest needs."""

    run: RunRecord
    experiment: str
    split: Split
    target: TargetSpec
    rows: pd.DataFrame
    """Columns date, symbol, label, probability: one row per day and instrument."""
    references: Mapping[str, Array]
    """Baseline -> its probability on each of the rows."""
    bars: Mapping[str, pd.DataFrame]
    """Instrument -> its bars, adjusted for dividends as the labels are."""
    trials: Sequence[RunRecord]
    """Complete trials of the task at every budget: those that could have been chosen."""

    @property
    def title(self) -> str:
        """Name of the run with the start of its id."""
        return f"{self.run.name} ({self.run.run_id[:8]})"


def backtest_input(store: Store, options: BacktestOptions) -> BacktestInput:
    """Return the run that the options mean, with its rows, references and bars.

    Raises `InputError` if there is no such run or nothing to trade on.
    """
    run = _selected_run(store, options)
    target = _target(run)
    split: Split = "test" if run.kind == "evaluation" else "validation"
    rows = _predictions(store, run)
    trials = _same_question(store, run, "trial")
    return BacktestInput(
        run=run,
        experiment=query.experiments(store)[run.experiment_id],
        split=split,
        target=target,
        rows=rows,
        references=_reference_columns(rows) if split == "test" else _baseline_probabilities(store, run, rows),
        bars=_bars(store, run, rows),
        trials=list({trial.tags[schema.TRIAL_FINGERPRINT]: trial for trial in trials}.values()),
    )


def same_rows(store: Store, run: RunRecord, rows: pd.DataFrame) -> Array | None:
    """Return a run's validation probabilities, or None if they belong to other rows or no longer exist."""
    try:
        table = query.predictions(store, run.run_id)
    except InputError:
        return None
    same = set(COLUMNS) <= set(table) and len(table) == len(rows) and _keys(table).equals(_keys(rows))
    return table["probability"].to_numpy(np.float64) if same else None


def _keys(table: pd.DataFrame) -> pd.DataFrame:
    return table[["date", "symbol"]].reset_index(drop=True)


def _selected_run(store: Store, options: BacktestOptions) -> RunRecord:
    """Return the run that the options mean: the evaluation of a question if there is one, else its best trial."""
    if options.run:
        fix = "give a trial's or an evaluation's id, which make ui shows on the run's page"
        run = run_with_id(store, options.run, (*KINDS, "final"), what="run with predictions", fix=fix)
        if run.kind != "final":
            return run
        evaluations = [e for e in complete_runs(store, ("evaluation",)) if e.tags[schema.FINAL_RUN] == run.run_id]
        require(bool(evaluations), "RUN", options.run, "its test days are closed; make evaluate RUN= opens them.")
        return evaluations[0]
    runs = complete_runs(
        store, ("trial", "evaluation"), budget=options.budget, horizon=options.horizon, experiment=options.experiment
    )
    where = f"horizon {options.horizon}" + (f" at {options.budget}" if options.budget else "")
    field, value = ("BUDGET", options.budget) if options.budget else ("HORIZON", options.horizon)
    require(bool(runs), field, value, f"no complete trial of {where}; make leaderboard shows those there are.")
    # One evaluation per final run, the first: a later one is no better, and none is chosen for its result.
    by_final = {run.tags[schema.FINAL_RUN]: run for run in reversed(runs) if run.kind == "evaluation"}
    evaluated = {question_of(run) for run in by_final.values()}
    trials = best_by_question(run for run in runs if run.kind == "trial")
    candidates = [*by_final.values(), *(trial for trial in trials if question_of(trial) not in evaluated)]
    names = query.experiments(store)
    listed = ", ".join(f"{run.run_id[:8]} ({names[run.experiment_id]}: {run.name})" for run in candidates)
    require(len(candidates) == 1, "RUN", "", f"{where} matches several runs: {listed}; choose one with RUN=, or give a BUDGET.")
    return candidates[0]


def _same_question(store: Store, run: RunRecord, kind: str) -> list[RunRecord]:
    """Return the complete runs of the same question, oldest first."""
    study = run.tags[schema.STUDY_FINGERPRINT]
    runs = query.runs_with_tag(store, run.experiment_id, schema.STUDY_FINGERPRINT, study, kinds=(kind,))
    return [other for other in runs if other.outcome == "complete" and question_of(other) == question_of(run)]


def _target(run: RunRecord) -> TargetSpec:
    target = part_from_params(TargetSpec, run.params)
    fix = "its labels were shuffled; there is no trade that they describe."
    require(target.shuffled is None, "RUN", run.run_id[:12], fix)
    return target


def _predictions(store: Store, run: RunRecord) -> pd.DataFrame:
    if run.kind == "evaluation":
        table = pd.read_parquet(store.local_artifact(run.run_id, schema.TEST_PREDICTIONS_FILE))
    else:
        table = query.predictions(store, run.run_id)
    absent = [name for name in COLUMNS if name not in table]
    fix = f"its predictions have no column {', '.join(absent)}; run the same sweep again."
    require(not absent, "RUN", run.run_id[:12], fix)
    return table


def _reference_columns(rows: pd.DataFrame) -> dict[str, Array]:
    return {name: rows[name].to_numpy(np.float64) for name in REFERENCES if name in rows}


def _baseline_probabilities(store: Store, run: RunRecord, rows: pd.DataFrame) -> dict[str, Array]:
    runs = {str(baseline.params["baseline"]): baseline for baseline in _same_question(store, run, "baseline")}
    by_name = {name: same_rows(store, runs[name], rows) for name in REFERENCES if name in runs}
    return {name: probabilities for name, probabilities in by_name.items() if probabilities is not None}


def _bars(store: Store, run: RunRecord, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    digest = run.tags[schema.SNAPSHOT_DIGEST]
    try:
        snapshot = load_snapshot(digest, store.snapshots)
    except InputError as error:
        raise InputError(f"RUN={run.run_id[:12]}: its bars cannot be read here. {error}") from None
    return {str(symbol): adjusted(snapshot.of(str(symbol))) for symbol in rows["symbol"].unique()}
