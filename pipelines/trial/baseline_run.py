"""One baseline on the sweep's rows, as a nested run."""

from __future__ import annotations

from pipelines.trial.context import SweepContext
from pipelines.trial.job import TrialResult
from pipelines.trial.record import losses_by_symbol, val_metrics, write_common
from pipelines.trial.task_record import data_metrics, task_inputs, task_params
from research.evaluation.metrics import logits_of, scores
from research.features.feature_sets import A25S
from research.fingerprint import canonical_json
from research.models.baselines import BASELINES
from research.spec import BaselineSpec
from research.tracking import schema
from research.tracking.run_writer import RunLog


def baseline_spec(sweep: SweepContext, name: str) -> BaselineSpec:
    """Return everything that the baseline's result depends on."""
    task = sweep.task
    length = task.prepared.context_length
    return BaselineSpec(task=task.spec, baseline=name, version=BASELINES[name].version, context_length=length)


def run_baseline(sweep: SweepContext, name: str) -> TrialResult:
    """Fit one baseline on the sweep's rows and record it as a nested run."""
    baseline = BASELINES[name]
    task = sweep.task
    spec = baseline_spec(sweep, name)
    title = f"baseline {baseline.title}"
    log = RunLog.start(
        sweep.store,
        experiment_id=sweep.experiment_id,
        kind="baseline",
        name=title,
        params={
            "baseline": name,
            "budget": sweep.budget.label,
            "context_length": spec.context_length,
            **task_params(task),
            "feature_set": A25S.name,
            "index": "none",
            "volatility_index": "none",
            **{f"baseline_{key}": value for key, value in baseline.settings.items()},
        },
        tags={**sweep.tags, schema.TRIAL_FINGERPRINT: spec.fingerprint, schema.CONFIG_FINGERPRINT: spec.fingerprint},
        parent_id=sweep.parent_id,
        inputs=task_inputs(task),
    )
    with log.ending():
        logits = logits_of(baseline(task.baseline_rows))
    val_scores = scores(logits, task.prepared.labels_of("validation"), task.training_base_rate, task.validation_days)
    log.artifacts(lambda folder: write_common(folder, sweep, canonical_json(spec), logits, val_scores))
    log.finish("complete", metrics={**val_metrics(val_scores), **data_metrics(task), **losses_by_symbol(task, logits)})
    return TrialResult(run_id=log.run_id, name=baseline.title, kind="baseline", outcome="complete", scores=val_scores)
