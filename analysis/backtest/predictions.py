"""What is backtested: one run's stored predictions, those of its references on the same rows, and the bars they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.options import BacktestOptions
from research.counts import parse_count
from research.data.dividend_adjustment import adjusted
from research.data.snapshots import load_snapshot
from research.errors import InputError, require
from research.spec import TargetKind, TargetSpec, Touch
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store

Array = NDArray[np.float64]
Split = Literal["validation", "test"]
VOLATILITY, LOGISTIC = "volatility", "logistic"
REFERENCES = (VOLATILITY, LOGISTIC)
COLUMNS = ("date", "symbol", "label", "probability")
KINDS = ("trial", "replicate", "baseline", "evaluation")


@dataclass(frozen=True, kw_only=True)
class BacktestInput:
    """One run's predictions and all that a reading of them needs."""

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
    """All complete trials of the study, every budget's: those that could have been chosen."""

    @property
    def title(self) -> str:
        """The run in a table."""
        return f"{self.run.name} ({self.run.run_id[:8]})"


def backtest_input(store: Store, options: BacktestOptions) -> BacktestInput:
    """The run that the options mean; `InputError` where there is none, or nothing to trade on."""
    run = _run(store, options)
    target = _target(run)
    split: Split = "test" if run.kind == "evaluation" else "validation"
    rows = _predictions(store, run)
    trials = _alike(store, run, "trial")
    return BacktestInput(
        run=run,
        experiment=query.experiments(store)[run.experiment_id],
        split=split,
        target=target,
        rows=rows,
        references=_in_columns(rows) if split == "test" else _of_baselines(store, run, rows),
        bars=_bars(store, run, rows),
        trials=list({one.tags[schema.TRIAL_FINGERPRINT]: one for one in trials}.values()),
    )


def same_rows(store: Store, run: RunRecord, rows: pd.DataFrame) -> Array | None:
    """A run's validation probabilities, or None if they are of other rows or no longer there."""
    try:
        table = query.predictions(store, run.run_id)
    except InputError:
        return None
    same = set(COLUMNS) <= set(table) and len(table) == len(rows) and _keys(table).equals(_keys(rows))
    return table["probability"].to_numpy(np.float64) if same else None


def _keys(table: pd.DataFrame) -> pd.DataFrame:
    return table[["date", "symbol"]].reset_index(drop=True)


def _run(store: Store, options: BacktestOptions) -> RunRecord:
    if options.run:
        return _named(store, options.run)
    names = query.experiments(store, options.experiment)
    found = [one for one in query.runs_of_kind(store, list(names), ("trial", "evaluation")) if _is_asked(one, options)]
    where = f"horizon {options.horizon}" + (f" at {options.budget}" if options.budget else "")
    field, value = ("BUDGET", options.budget) if options.budget else ("HORIZON", options.horizon)
    require(bool(found), field, value, f"no complete trial of {where}; make leaderboard shows those there are.")
    looks = _first_looks(found)
    opened = {_question(one) for one in looks}
    candidates = [*looks, *(one for one in _best_trials(found) if _question(one) not in opened)]
    listed = ", ".join(f"{one.run_id[:8]} ({names[one.experiment_id]}: {one.name})" for one in candidates)
    require(len(candidates) == 1, "RUN", "", f"{where} has several: {listed}; give one as RUN=, or a BUDGET.")
    return candidates[0]


def _first_looks(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """One evaluation per final run, the first: a later look is no better, and none is picked for its result."""
    looks = [one for one in runs if one.kind == "evaluation"]
    return list({one.tags[schema.FINAL_RUN]: one for one in reversed(looks)}.values())


def _best_trials(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The trial with the lowest validation loss of each question."""
    ranked = sorted((one for one in runs if one.kind == "trial"), key=lambda one: one.metrics["val_loss"])
    return list({_question(one): one for one in reversed(ranked)}.values())


def _named(store: Store, prefix: str) -> RunRecord:
    names = query.experiments(store)
    runs = query.runs_of_kind(store, list(names), (*KINDS, "final"))
    found = [one for one in runs if one.run_id.startswith(prefix)]
    fix = "no run has an id that begins so; give a trial's or an evaluation's, make ui shows it on the run's page."
    require(bool(found), "RUN", prefix, fix)
    require(len(found) == 1, "RUN", prefix, f"{len(found)} ids begin so; give more letters of it.")
    (run,) = found
    fix = "it was adopted from files, which hold no predictions; sweep its question here."
    require(schema.ADOPTED_FINGERPRINT not in run.tags, "RUN", prefix, fix)
    if run.kind == "final":
        looks = [one for one in runs if one.tags.get(schema.FINAL_RUN) == run.run_id and one.outcome == "complete"]
        require(bool(looks), "RUN", prefix, "its test days are closed; make evaluate RUN= opens them.")
        return looks[0]
    require(run.outcome == "complete", "RUN", prefix, f"it is {run.outcome or 'still running'} and has no predictions.")
    return run


def _is_asked(run: RunRecord, options: BacktestOptions) -> bool:
    if run.outcome != "complete" or schema.ADOPTED_FINGERPRINT in run.tags or run.params.get("horizon") != options.horizon:
        return False
    size = parse_count(options.budget, "BUDGET", "parameters") if options.budget else None
    return size is None or parse_count(str(run.params["budget"]), "BUDGET", "parameters") == size


def _question(run: RunRecord) -> tuple[str, str, str]:
    """Runs that agree in it answer the same question on the same rows."""
    return run.experiment_id, run.tags[schema.STUDY_FINGERPRINT], str(run.params["context_length"])


def _alike(store: Store, run: RunRecord, kind: str) -> list[RunRecord]:
    """Complete runs of the same study, oldest first."""
    study = run.tags[schema.STUDY_FINGERPRINT]
    found = query.runs_with_tag(store, run.experiment_id, schema.STUDY_FINGERPRINT, study, kinds=(kind,))
    return [one for one in found if one.outcome == "complete" and _question(one) == _question(run)]


def _target(run: RunRecord) -> TargetSpec:
    told = run.params
    shuffled = told.get("shuffled", "no")
    require(shuffled == "no", "RUN", run.run_id[:12], "its labels were shuffled; there is no trade that they describe.")
    return TargetSpec(
        horizon=int(told["horizon"]),
        kind=cast(TargetKind, told["task"]),
        # A direction has none; the spec takes any and makes it 0.
        threshold=float(told["threshold"]),
        touch=cast(Touch, told["touch"]),
    )


def _predictions(store: Store, run: RunRecord) -> pd.DataFrame:
    if run.kind == "evaluation":
        table = pd.read_parquet(store.local_artifact(run.run_id, schema.TEST_PREDICTIONS_FILE))
    else:
        table = query.predictions(store, run.run_id)
    absent = [name for name in COLUMNS if name not in table]
    fix = f"its predictions have no column {', '.join(absent)}: an older version wrote them. Run the same sweep again."
    require(not absent, "RUN", run.run_id[:12], fix)
    return table


def _in_columns(rows: pd.DataFrame) -> dict[str, Array]:
    return {name: rows[name].to_numpy(np.float64) for name in REFERENCES if name in rows}


def _of_baselines(store: Store, run: RunRecord, rows: pd.DataFrame) -> dict[str, Array]:
    runs = {str(one.params["baseline"]): one for one in _alike(store, run, "baseline")}
    found = {name: same_rows(store, runs[name], rows) for name in REFERENCES if name in runs}
    return {name: said for name, said in found.items() if said is not None}


def _bars(store: Store, run: RunRecord, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    digest = run.tags[schema.SNAPSHOT_DIGEST]
    try:
        snapshot = load_snapshot(digest, store.snapshots)
    except InputError as problem:
        raise InputError(f"RUN={run.run_id[:12]}: its bars cannot be read here. {problem}") from None
    return {str(symbol): adjusted(snapshot.of(str(symbol))) for symbol in rows["symbol"].unique()}
