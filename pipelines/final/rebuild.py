"""A study as one of its runs saw it: the same bytes, features and labels, or an error that says what has changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from pipelines.data.load_task import ingest
from pipelines.trial.task_record import task_tags
from research.errors import require
from research.spec import TrialSpec
from research.task.build import Assembled, assemble
from research.task.options import options_of
from research.task.task import Study, require_same_clock, study_of
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.spec_codec import spec_of, study_in
from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What a run was trained for and on."""

    spec: TrialSpec
    study: Study
    found: Assembled


def rebuilt(store: Store, run: RunRecord) -> Rebuilt:
    """The study of a trial, replicate or final run, from its logged spec.

    `InputError` if its parameters are not those of its fingerprint, or if bars, features or labels are other ones today.
    """
    told = json.loads(store.local_artifact(query.holder(store, run.run_id), schema.SPEC_FILE).read_text())
    spec = spec_of(run, study_in(told["study"]))
    options = options_of(spec, thin=schema.THIN_EVIDENCE in run.tags)
    snapshot = ingest(spec.study.data.snapshot_digest, store)
    require_same_clock(options, snapshot)
    found = assemble(options, snapshot.bars, digest=snapshot.digest, source=snapshot.manifest.source)
    study = replace(study_of(options, snapshot, found), family=spec.architecture.family)
    now = task_tags(study)
    for tag in (schema.SNAPSHOT_DIGEST, schema.STUDY_FINGERPRINT, schema.FEATURE_DIGEST, schema.TARGET_DIGEST):
        commit = run.tags[schema.GIT_COMMIT][:12]
        fix = f"it is {now[tag]} when computed here; check out commit {commit} of the run, or sweep again."
        require(now[tag] == run.tags[tag], tag, run.tags[tag], fix)
    return Rebuilt(spec=spec, study=study, found=found)
