"""Earlier evaluations on the test days of a final run."""

from __future__ import annotations

from research.errors import InputError
from research.evaluation.holdout import TestSetAccesses
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store
from research.tracking.test_set_access import by_question, is_of_the_question, shares_days, shares_instruments


def earlier_accesses(store: Store, final: RunRecord) -> TestSetAccesses:
    """Count evaluations on these test days, whatever their outcome: the results of one that crashed may have been seen."""
    evaluations = query.evaluations(store)
    digest = final.tags[schema.TARGET_DIGEST]
    same_question = [run for run in evaluations if is_of_the_question(run, final.params, final.experiment_id, digest)]
    other_models = [run for run in same_question if run.tags[schema.FINAL_RUN] != final.run_id]
    counted = {run.run_id for run in same_question}
    other_questions = (
        run
        for run in evaluations
        if run.run_id not in counted and shares_days(run.params, final.params) and shares_instruments(run.params, final.params)
    )
    fingerprint = final.tags[schema.CONFIG_FINGERPRINT]
    return TestSetAccesses(
        same=len(same_question) - len(other_models),
        related=sum(run.tags[schema.CONFIG_FINGERPRINT] == fingerprint for run in other_models),
        any=len(same_question),
        others=by_question(other_questions, query.experiments(store)),
    )


def require_first_access(accesses: TestSetAccesses, final: RunRecord, *, again: bool) -> None:
    """Raise `InputError` if the final run was evaluated before and `again` is not set."""
    if accesses.same and not again:
        raise InputError(
            f"RUN={final.run_id[:12]}: its test days have been opened ({accesses.same} before), and a second evaluation is not "
            "an independent test; see the results with make ui, or repeat it, marked as a repetition, with AGAIN=1."
        )
