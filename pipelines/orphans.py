"""Runs of last trainings that were killed: the next training closes them."""

from __future__ import annotations

from pipelines.resume import close_open
from research.tracking import query, schema
from research.tracking.owner import Owner
from research.tracking.runs import RunLog
from research.tracking.store import Store


def close_dead_trainings(store: Store) -> None:
    """Close what killed trainings left open in the store, as `interrupted`; a training that is alive keeps its runs."""
    # Seeds are read before their parents: a seed that is seen then has its parent seen.
    runs = query.of_kinds(store, list(query.experiments(store)), ("final_seed", "final"))
    left = [run for run in runs if run.status == "RUNNING"]
    owners = {run.run_id: Owner.read(run.tags[schema.OWNER]) for run in left if schema.OWNER in run.tags}
    for run in left:
        owner = owners.get(run.tags.get(schema.PARENT, run.run_id))
        # It may have ended by itself since it was read.
        if (owner is None or owner.is_gone) and RunLog(store, run.run_id).tags_and_status()[1] == "RUNNING":
            close_open(store, run, "its process died")
