"""One seed of a final training: a nested run whose model and settings are checked against the plan."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from pipelines.final.plan import FinalContext, FinalTrainingPlan
from pipelines.serving.packaging import log_model
from pipelines.trial.context import WorkerResources, numerics_tags
from pipelines.trial.placement import InfeasibleError, micro_batch_for
from pipelines.trial.record import declared_params, require_applied, require_counted_size
from pipelines.trial.run_listener import RunListener
from pipelines.trial.task_record import data_metrics, task_inputs, task_params
from research.errors import InputError, require
from research.evaluation.ensemble import EnsembleOutput
from research.fingerprint import canonical_json, fingerprint
from research.spec import TrialSpec
from research.tracking import schema
from research.tracking.run_writer import RunLog
from research.training.applied_settings import applied_settings, parameters_of
from research.training.checkpoint import save_weights
from research.training.fixed_length_trainer import FixedLengthTrainer
from research.training.trainer import TrainingResult, build_model
from research.training.trial_state import EpochRecord


def train_seed(
    plan: FinalTrainingPlan, parent_id: str, seed: int, *, kind: Literal["final_seed", "retrained"]
) -> tuple[str, TrainingResult]:
    """Train one seed as a nested run; return its run id and result. A `final_seed` also logs its model."""
    context, spec = plan.context, plan.spec(seed)
    log = RunLog.start(
        context.store,
        experiment_id=context.experiment_id,
        kind=kind,
        name=f"{plan.trained_on} seed {seed}" if kind == "retrained" else f"seed {seed} {spec.architecture.label}",
        params=plan.params(seed),
        tags={
            **context.tags,
            schema.TRIAL_FINGERPRINT: spec.fingerprint,
            schema.CONFIG_FINGERPRINT: spec.config_fingerprint,
            **numerics_tags(context.runtime, spec.architecture),
        },
        parent_id=parent_id,
        inputs=task_inputs(context.task),
    )
    with log.ending():
        result = _train(plan, spec, log)
        log.artifacts(lambda folder: _write(folder, spec, result, context))
        if kind == "final_seed":
            _log_model(plan, log.run_id, result)
    seconds = sum(epoch.seconds for epoch in result.epochs)
    metrics = {
        "train_loss_last": result.epochs[-1].train_loss,
        "epochs_run": float(len(result.epochs)),
        "training_seconds": seconds,
        "n_params": plan.trial.metrics["n_params"],
        "samples_per_second": result.samples_per_second,
    }
    log.finish("complete", metrics={**metrics, **data_metrics(context.task)})
    return log.run_id, result


def _train(plan: FinalTrainingPlan, spec: TrialSpec, log: RunLog) -> TrainingResult:
    context = plan.context
    try:
        micro_batch = micro_batch_for(spec, WorkerResources(runtime=context.runtime, devices=(context.runtime.device,)))
    except InfeasibleError as error:
        raise InputError(f"DEVICE={context.runtime.device}: {error}; give a device with more memory.") from None
    runtime = replace(context.runtime, micro_batch=micro_batch)
    model = build_model(spec.architecture, spec.training, runtime.device)
    trainer = FixedLengthTrainer(
        model, context.windows, context.task.prepared.split, spec.training, runtime, stop_after=plan.stop_after
    )
    _require_same(plan, spec, parameters_of(model), trainer)

    def keep_training(_: EpochRecord) -> bool:
        return True

    # An interrupted seed continues from this checkpoint when the command is repeated.
    identity = fingerprint({"plan": plan.fingerprint, "seed": spec.training.seed})
    checkpoint = context.checkpoints / f"final-{identity}.safetensors"
    result = trainer.run(RunListener(log, keep_training), checkpoint)
    checkpoint.unlink(missing_ok=True)
    return result


def _require_same(plan: FinalTrainingPlan, spec: TrialSpec, n_parameters: int, trainer: FixedLengthTrainer) -> None:
    """Raise `InputError` unless size, settings and data of the model to train are those that were chosen."""
    require_counted_size(n_parameters, spec.architecture, plan.context.budget)
    chosen = int(plan.trial.metrics["n_params"])
    require(n_parameters == chosen, "n_params", chosen, f"the model built here has {n_parameters:,}; nothing was trained.")
    # Validated instruments and training windows are those of the task before its splits were joined.
    require_applied(
        declared_params(spec, plan.context.budget), {**applied_settings(trainer), **task_params(plan.reproduced.task)}
    )


def _log_model(plan: FinalTrainingPlan, run_id: str, result: TrainingResult) -> None:
    """Log the single model with the ensemble's calibration; its weights are stored in no other artifact."""
    context, spec = plan.context, plan.reproduced.spec
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / schema.WEIGHTS_FILE
        save_weights(result.weights, weights)
        log_model(context.store, run_id, context.task, spec, [weights], EnsembleOutput(calibration=plan.calibration))


def _write(folder: Path, spec: TrialSpec, result: TrainingResult, context: FinalContext) -> None:
    write_spec(spec, folder)
    curve = pd.DataFrame([asdict(record) for record in result.epochs]).drop(columns="val_loss")
    curve.to_csv(folder / schema.CURVE_FILE, index=False)
    context.provenance.write(folder)


def write_spec(spec: TrialSpec, folder: Path) -> None:
    """Write the spec as JSON to a run's folder."""
    (folder / schema.SPEC_FILE).write_text(json.dumps(json.loads(canonical_json(spec)), indent=2) + "\n")
