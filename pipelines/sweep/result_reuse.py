"""Reuse of results: a result that the experiment already has is linked into a sweep and not computed again."""

from __future__ import annotations

from dataclasses import replace

from pipelines.sweep.history import finished_of
from pipelines.trial.baseline_run import baseline_spec
from pipelines.trial.context import SweepContext
from pipelines.trial.job import Job, TrialResult
from pipelines.trial.task_record import task_inputs
from research.models.baselines import BASELINES
from research.tracking import schema
from research.tracking.query import CURVES, RunRecord, runs_with_tag
from research.tracking.run_writer import RunLog

SETTLED = ("complete", "diverged")
"""Outcomes that a second training would repeat. A crash, a stop or a lack of memory might not."""


class ResultCache:
    """Finished runs of the same study in any sweep of the experiment, by fingerprint."""

    def __init__(self, context: SweepContext):
        self._context = context
        runs = runs_with_tag(
            context.store,
            context.experiment_id,
            schema.STUDY_FINGERPRINT,
            context.tags[schema.STUDY_FINGERPRINT],
            kinds=("trial", "replicate", "baseline"),
        )
        self._runs: dict[str, RunRecord] = {}
        for run in runs:
            if run.outcome in SETTLED and schema.LINKED not in run.tags:
                self._runs.setdefault(run.tags[schema.TRIAL_FINGERPRINT], run)

    def trial(self, job: Job) -> TrialResult | None:
        """Link the job's result into the sweep, or return None if it has to be trained."""
        known = self._runs.get(job.spec.fingerprint)
        if known is None or (known.metrics.get("val_loss", 0.0) < job.leading_loss and not self._has_weights(known)):
            # A new best model needs its weights, and only trials that led their own sweep left any.
            return None
        log = self._link(known, job.kind, job.name, {**known.params, "number": job.number}, job.tags)
        found = finished_of(self._ended(log, known), job.name, job.spec)
        # An attempt that was interrupted before the result became known may have left its state.
        self._context.checkpoint_of(job.spec).unlink(missing_ok=True)
        return replace(found, kind=job.kind, number=job.number, proposed_by=job.tags.get(schema.PROPOSED_BY, ""))

    def baseline(self, name: str) -> TrialResult | None:
        """Link a baseline's result into the sweep, or return None if it has to be fitted."""
        known = self._runs.get(baseline_spec(self._context, name).fingerprint)
        if known is None:
            return None
        log = self._link(known, "baseline", known.name, known.params, {})
        return finished_of(self._ended(log, known), BASELINES[name].title, None)

    def _link(
        self,
        known: RunRecord,
        kind: schema.RunKind,
        name: str,
        params: dict[str, int | float | str | bool],
        tags: dict[str, str],
    ) -> RunLog:
        fingerprints = {tag: known.tags[tag] for tag in (schema.TRIAL_FINGERPRINT, schema.CONFIG_FINGERPRINT)}
        return RunLog.start(
            self._context.store,
            experiment_id=self._context.experiment_id,
            kind=kind,
            name=name,
            params={**params, "budget": self._context.budget.label},
            tags={**self._context.tags, **tags, **fingerprints, schema.LINKED: known.run_id},
            parent_id=self._context.parent_id,
            inputs=task_inputs(self._context.task),
        )

    def _ended(self, log: RunLog, known: RunRecord) -> RunRecord:
        """Close the link with what the known run has; its artifacts and curves stay where they are."""
        assert known.outcome is not None
        kept = {tag: known.tags[tag] for tag in (schema.ALARM, schema.REASON) if tag in known.tags}
        final = {name: value for name, value in known.metrics.items() if not name.startswith(CURVES)}
        log.finish(known.outcome, metrics=final, tags=kept)
        return replace(known, run_id=log.run_id, tags={**known.tags, schema.LINKED: known.run_id})

    def _has_weights(self, known: RunRecord) -> bool:
        files = self._context.store.client.list_artifacts(known.run_id)
        return any(file.path == schema.WEIGHTS_FILE for file in files)
