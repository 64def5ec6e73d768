"""What killed last trainings and evaluations left undone: the next of either, or a promotion, does it."""

from __future__ import annotations

from pipelines.sweep.history import close_run
from research.tracking import query, schema
from research.tracking.process_identity import DriverClaim
from research.tracking.registry import is_tested, note_tested, version_of
from research.tracking.run_writer import RunLog
from research.tracking.store import Store

KINDS = ("final_seed", "final", "retrained", "evaluation")


def close_dead_runs(store: Store) -> None:
    """Close what killed processes left open in the store, as `interrupted`; one that is alive keeps its runs.

    An evaluation stays a look at the test days.
    """
    # Nested runs are read before their parents: one that is seen then has its parent seen.
    runs = query.runs_of_kind(store, list(query.experiments(store)), KINDS)
    left = [run for run in runs if run.status == "RUNNING"]
    owners = {run.run_id: DriverClaim.read(run.tags[schema.OWNER]) for run in left if schema.OWNER in run.tags}
    for run in left:
        owner = owners.get(run.tags.get(schema.PARENT, run.run_id))
        # It may have ended by itself since it was read.
        if (owner is None or owner.is_gone) and RunLog(store, run.run_id).tags_and_status()[1] == "RUNNING":
            close_run(store, run, "its process died")
    tag_tested_versions(store)


def tag_tested_versions(store: Store) -> None:
    """Say on the version of every final run that it was tested, where a kill came between its evaluation and that word.

    It becomes challenger as it would have then: not where another version of its model was tested later.
    """
    runs = query.runs_of_kind(store, list(query.experiments(store)), ("evaluation",))
    taken: set[str] = set()
    for run in reversed(runs):
        if run.outcome != "complete" or schema.SECOND_LOOK in run.tags:
            continue
        version = version_of(store, run.tags[schema.FINAL_RUN])
        if version is None:
            continue
        if not is_tested(version):
            note_tested(store, run.tags[schema.FINAL_RUN], run.run_id, challenges=version.name not in taken)
        taken.add(version.name)
