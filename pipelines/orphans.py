"""Runs of last trainings and evaluations that were killed: the next of either closes them."""

from __future__ import annotations

from pipelines.resume import close_open
from research.tracking import query, schema
from research.tracking.owner import Owner
from research.tracking.runs import RunLog
from research.tracking.store import Store

KINDS = ("final_seed", "final", "retrained", "evaluation")


def close_dead(store: Store) -> None:
    """Close what killed processes left open in the store, as `interrupted`; one that is alive keeps its runs.

    An evaluation stays a look at the test days.
    """
    # Nested runs are read before their parents: one that is seen then has its parent seen.
    runs = query.of_kinds(store, list(query.experiments(store)), KINDS)
    left = [run for run in runs if run.status == "RUNNING"]
    owners = {run.run_id: Owner.read(run.tags[schema.OWNER]) for run in left if schema.OWNER in run.tags}
    for run in left:
        owner = owners.get(run.tags.get(schema.PARENT, run.run_id))
        # It may have ended by itself since it was read.
        if (owner is None or owner.is_gone) and RunLog(store, run.run_id).tags_and_status()[1] == "RUNNING":
            close_open(store, run, "its process died")
