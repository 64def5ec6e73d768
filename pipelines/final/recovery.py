"""Recovery after a killed `train` or `evaluate`; run at the start of `train`, `evaluate` and `promote`."""

from __future__ import annotations

from pipelines.sweep.history import close_run
from research.tracking import query, schema
from research.tracking.process_identity import DriverClaim
from research.tracking.registry import is_tested, note_tested, version_of
from research.tracking.run_writer import RunLog
from research.tracking.store import Store

KINDS = ("final_seed", "final", "retrained", "evaluation")
"""Kinds of runs that `train` and `evaluate` start."""


def close_dead_runs(store: Store) -> None:
    """Close runs whose process died, as `interrupted`; runs of a live process stay open.

    A closed evaluation still counts as an access to the test days.
    """
    # Kinds of nested runs are read before their parents, so that the parent of every run read is read too.
    runs = query.runs_of_kind(store, list(query.experiments(store)), KINDS)
    open_runs = [run for run in runs if run.status == "RUNNING"]
    owners = {run.run_id: DriverClaim.read(run.tags[schema.OWNER]) for run in open_runs if schema.OWNER in run.tags}
    for run in open_runs:
        owner = owners.get(run.tags.get(schema.PARENT, run.run_id))
        # The run may have ended since it was read.
        if (owner is None or owner.is_gone) and RunLog(store, run.run_id).tags_and_status()[1] == "RUNNING":
            close_run(store, run, "its process died")
    tag_tested_versions(store)


def tag_tested_versions(store: Store) -> None:
    """Tag the tested versions that a process did not tag because it was killed after their evaluation.

    Such a version becomes challenger, as it would have, unless another version of its model was tested later.
    """
    runs = query.runs_of_kind(store, list(query.experiments(store)), ("evaluation",))
    tested_models: set[str] = set()
    for run in reversed(runs):
        if run.outcome != "complete" or schema.SECOND_LOOK in run.tags:
            continue
        version = version_of(store, run.tags[schema.FINAL_RUN])
        if version is None:
            continue
        if not is_tested(version):
            note_tested(store, run.tags[schema.FINAL_RUN], run.run_id, challenges=version.name not in tested_models)
        tested_models.add(version.name)
