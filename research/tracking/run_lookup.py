"""Which run does the user mean: by budget and horizon, or by the start of its id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from research.counts import parse_count
from research.errors import InputError, require
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store


def best_trial(store: Store, *, budget: str, horizon: int, run: str) -> RunRecord:
    """The complete trial with the lowest validation loss of a budget and horizon, or the one that `run` begins.

    `InputError` lists the candidates where the words fit several questions.
    """
    complete = _complete(store, ("trial",))
    if run:
        return _begun_by(store, run, complete, "complete trial", "make ui shows a trial's id on its page")
    best: dict[str, RunRecord] = {}
    for one in _asked(complete, budget, horizon, "make sweep first"):
        question = f"{one.experiment_id} {one.tags[schema.STUDY_FINGERPRINT]} {one.params['context_length']}"
        if question not in best or one.metrics["val_loss"] < best[question].metrics["val_loss"]:
            best[question] = one
    return _only(list(best.values()), budget, horizon)


def final_run(store: Store, *, budget: str, horizon: int, run: str) -> RunRecord:
    """The complete final run of a budget and horizon, or the one that `run` begins; `InputError` lists several."""
    complete = _complete(store, ("final",))
    if run:
        return _begun_by(store, run, complete, "complete final run", "make train makes one")
    return _only(_asked(complete, budget, horizon, "make train first"), budget, horizon)


def _complete(store: Store, kinds: Sequence[str]) -> list[RunRecord]:
    runs = query.runs_of_kind(store, list(query.experiments(store)), kinds)
    return [one for one in runs if one.outcome == "complete" and schema.ADOPTED_FINGERPRINT not in one.tags]


def _begun_by(store: Store, prefix: str, runs: Sequence[RunRecord], what: str, fix: str) -> RunRecord:
    found = [one for one in runs if one.run_id.startswith(prefix)]
    if not found:
        others = query.runs_of_kind(store, list(query.experiments(store)), get_args(schema.RunKind))
        told = ", ".join(f"it is {one.name}, a {one.kind}" for one in others if one.run_id.startswith(prefix))
        raise InputError(f"RUN={prefix}: {told or f'no {what} has an id that begins so'}; {fix}.")
    if len(found) > 1:
        raise InputError(f"RUN={prefix}: {len(found)} ids begin so; give more letters of it.")
    return found[0]


def _asked(runs: Sequence[RunRecord], budget: str, horizon: int, fix: str) -> list[RunRecord]:
    size = parse_count(budget, "BUDGET", "parameters")
    found = [
        one
        for one in runs
        if parse_count(str(one.params["budget"]), "BUDGET", "parameters") == size and one.params["horizon"] == horizon
    ]
    require(bool(found), "BUDGET", budget, f"nothing of it is complete at horizon {horizon}; {fix}.")
    return found


def _only(found: Sequence[RunRecord], budget: str, horizon: int) -> RunRecord:
    if len(found) > 1:
        listed = ", ".join(f"RUN={one.run_id[:12]} ({one.name}, {_question(one)})" for one in found)
        raise InputError(f"BUDGET={budget} HORIZON={horizon}: several answer to that; give one of {listed}.")
    return found[0]


def _question(run: RunRecord) -> str:
    said = run.params
    question = f"{said['symbol']} {said['task']} {said['threshold']}, {said['feature_set']}, context {said['context_length']}"
    # Two last trainings of one question differ by these.
    return f"{question}, seeds {said['seeds']}, calibration {said.get('calibration', 'none')}" if "seeds" in said else question
