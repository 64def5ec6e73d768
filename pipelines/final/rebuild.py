"""The task of a logged run, rebuilt: the same bars, features and labels, or an error that names what has changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from pipelines.data.load_task import ingest
from pipelines.trial.task_record import task_tags
from research.errors import require
from research.spec import TrialSpec
from research.task.build import TaskData, assemble
from research.task.options import options_of
from research.task.task import Task, build_task, require_same_clock
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.spec_codec import task_spec_from_json, trial_spec_from_run
from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class ReproducedTask:
    """Spec and task of a run, rebuilt from what it has logged."""

    spec: TrialSpec
    task: Task
    data: TaskData


def rebuild_task(store: Store, run: RunRecord) -> ReproducedTask:
    """Return the task of a trial, replicate or final run, rebuilt from its logged spec.

    Raises `InputError` if the parameters do not match the fingerprint, or if bars, features or labels have changed.
    """
    logged = json.loads(store.local_artifact(query.run_with_artifacts(store, run.run_id), schema.SPEC_FILE).read_text())
    spec = trial_spec_from_run(run, task_spec_from_json(logged["study"]))
    options = options_of(spec, thin=schema.THIN_EVIDENCE in run.tags)
    snapshot = ingest(spec.task.data.snapshot_digest, store)
    require_same_clock(options, snapshot)
    data = assemble(options, snapshot.bars, digest=snapshot.digest, source=snapshot.manifest.source)
    task = replace(build_task(options, snapshot, data), family=spec.architecture.family)
    tags = task_tags(task)
    for tag in (schema.SNAPSHOT_DIGEST, schema.STUDY_FINGERPRINT, schema.FEATURE_DIGEST, schema.TARGET_DIGEST):
        commit = run.tags[schema.GIT_COMMIT][:12]
        fix = f"it is {tags[tag]} when computed here; check out commit {commit} of the run, or sweep again."
        require(tags[tag] == run.tags[tag], tag, run.tags[tag], fix)
    return ReproducedTask(spec=spec, task=task, data=data)
