"""Which run does the user mean: by budget and horizon, or by the start of its id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from research.counts import parse_count
from research.errors import InputError, require
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store

SHORTEST_PREFIX = 4
"""Characters of a run id from which on a prefix is taken."""


def best_trial(store: Store, *, budget: str, horizon: int, run: str) -> RunRecord:
    """Return the complete trial with the lowest validation loss of a budget and horizon, or the one whose id begins with `run`.

    Raises `InputError` with the candidates if budget and horizon match several questions.
    """
    if run:
        return run_with_id(store, run, ("trial",), what="complete trial", fix="make ui shows a trial's id on its page")
    trials = complete_runs(store, ("trial",), budget=budget, horizon=horizon)
    _require_any(trials, budget, horizon, "make sweep first")
    return _only(best_by_question(trials), budget, horizon)


def final_run(store: Store, *, budget: str, horizon: int, run: str) -> RunRecord:
    """Return the complete final run of a budget and horizon, or the one whose id begins with `run`."""
    if run:
        return run_with_id(store, run, ("final",), what="complete final run", fix="make train makes one")
    runs = complete_runs(store, ("final",), budget=budget, horizon=horizon)
    _require_any(runs, budget, horizon, "make train first")
    return _only(runs, budget, horizon)


def complete_runs(
    store: Store,
    kinds: Sequence[schema.RunKind],
    *,
    budget: str = "",
    horizon: int | None = None,
    experiment: str | None = None,
) -> list[RunRecord]:
    """Return the complete native runs of some kinds, newest first; of one budget, horizon or experiment if given."""
    size = parse_count(budget, "BUDGET", "parameters") if budget else None
    return [
        run
        for run in query.runs_of_kind(store, list(query.experiments(store, experiment)), kinds)
        if run.outcome == "complete"
        and schema.ADOPTED_FINGERPRINT not in run.tags
        and horizon in (None, run.params.get("horizon"))
        and size in (None, parse_count(str(run.params["budget"]), "BUDGET", "parameters"))
    ]


def run_with_id(
    store: Store, prefix: str, kinds: Sequence[schema.RunKind], *, field: str = "RUN", what: str, fix: str
) -> RunRecord:
    """Return the complete run of some kinds whose id begins with `prefix`.

    Raises `InputError` if the prefix is short or matches several ids, or if the run is of another kind, adopted or incomplete.
    """
    runs = query.runs_of_kind(store, list(query.experiments(store)), get_args(schema.RunKind))
    matching = [run for run in runs if run.run_id.startswith(prefix)]
    if len(matching) > 1:
        raise InputError(f"{field}={prefix}: {len(matching)} ids begin like this; give more characters.")
    if len(prefix) < SHORTEST_PREFIX or not matching:
        raise InputError(f"{field}={prefix}: no {what} has an id that begins like this; {fix}.")
    (run,) = matching
    if run.kind not in kinds:
        raise InputError(f"{field}={prefix}: it is {run.name}, a {run.kind}; {fix}.")
    if schema.ADOPTED_FINGERPRINT in run.tags:
        raise InputError(f"{field}={prefix}: it was adopted from files, without predictions; sweep its question here.")
    if run.outcome != "complete":
        raise InputError(f"{field}={prefix}: it is {run.outcome or 'still running'}, not complete; {fix}.")
    return run


def question_of(run: RunRecord) -> tuple[str, str, str]:
    """Return what runs of the same question on the same rows share: experiment, task and context."""
    return run.experiment_id, run.tags[schema.STUDY_FINGERPRINT], str(run.params["context_length"])


def best_by_question(trials: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the trial with the lowest validation loss of each question."""
    best: dict[tuple[str, str, str], RunRecord] = {}
    for trial in trials:
        leader = best.get(question_of(trial))
        if leader is None or trial.metrics["val_loss"] < leader.metrics["val_loss"]:
            best[question_of(trial)] = trial
    return list(best.values())


def _require_any(runs: Sequence[RunRecord], budget: str, horizon: int, fix: str) -> None:
    require(bool(budget), "BUDGET", budget, "give BUDGET with HORIZON, or RUN alone.")
    require(bool(runs), "BUDGET", budget, f"no complete run at horizon {horizon}; {fix}.")


def _only(runs: Sequence[RunRecord], budget: str, horizon: int) -> RunRecord:
    if len(runs) > 1:
        listed = ", ".join(f"RUN={run.run_id[:12]} ({run.name}, {_description(run)})" for run in runs)
        raise InputError(f"BUDGET={budget} HORIZON={horizon}: matches several runs; choose one with {listed}.")
    return runs[0]


def _description(run: RunRecord) -> str:
    values = run.params
    target = f"{values['symbol']} {values['task']} {values['threshold']}"
    text = f"{target}, {values['feature_set']}, context {values['context_length']}"
    # Two final trainings of one question differ by these.
    return f"{text}, seeds {values['seeds']}, calibration {values.get('calibration', 'none')}" if "seeds" in values else text
