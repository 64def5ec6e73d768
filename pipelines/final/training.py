"""The final training: one configuration on all rows before the test, several fresh seeds, one ensemble."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from pipelines.final.options import TrainOptions
from pipelines.final.plan import TRAINED_ON, FinalTrainingPlan, plan_training
from pipelines.final.recovery import close_dead_runs
from pipelines.final.seed_run import train_seed, write_spec
from pipelines.serving.packaging import log_model
from pipelines.sweep.driver_lock import DriverLease, only_driver
from pipelines.trial.task_record import data_metrics, task_inputs
from research.cli.console import print_line
from research.cli.next_steps import print_next
from research.evaluation.ensemble import EnsembleOutput, SeedInterval, seed_interval
from research.models.weights import load_weights
from research.task.windows import predict_float64
from research.tracking import query, schema
from research.tracking.process_identity import ProcessId
from research.tracking.registry import RegisteredVersion, has_own_code, register_apart
from research.tracking.run_writer import RunLog
from research.tracking.store import Store

SEEDS_MODEL = "-seeds"
"""Suffix of the registered model that holds the single seeds of a model's final runs."""


def train_final(store: Store, options: TrainOptions, screen: Console) -> str:
    """Train, log and register the ensemble; return its run id, or that of the same training if it was done before."""
    plan = plan_training(store, options)
    _print_plan(plan, screen)
    with only_driver(store, f"final-{plan.fingerprint}", "training"):
        close_dead_runs(store)
        if run_id := _completed_run(plan):
            # A process killed after it completed the run may not have registered the version.
            _register(plan, run_id)
            print_line(screen, f"trained before as run {run_id}; nothing to do")
            print_next(screen, options.store, f"make evaluate RUN={run_id[:12]}")
            return run_id
        log = _start_run(plan)
        with log.ending(), DriverLease(log):
            weights = [_train_seed(plan, log.run_id, seed, screen) for seed in plan.seeds]
            _finish_run(plan, log, weights)
        registered = _register(plan, log.run_id)
    name = registered.name
    print_line(
        screen,
        f"\nregistered {name} version {registered.version}, its single seeds as {name}{SEEDS_MODEL}; no alias was moved",
    )
    print_next(screen, options.store, f"make evaluate RUN={log.run_id[:12]}")
    print_line(screen, "      it opens the test days, once")
    return log.run_id


def _completed_run(plan: FinalTrainingPlan) -> str | None:
    """Return the run id of the same training if it was completed before."""
    context = plan.context
    runs = query.runs_with_tag(
        context.store, context.experiment_id, schema.FINAL_FINGERPRINT, plan.fingerprint, kinds=("final",)
    )
    # A model without code of its own is refused when it is to predict: it is trained and registered again.
    return next((run.run_id for run in runs if run.outcome == "complete" and has_own_code(context.store, run.run_id)), None)


def _start_run(plan: FinalTrainingPlan) -> RunLog:
    """Start the parent run with what all seeds share; its spec file is that of the trial."""
    context, spec = plan.context, plan.reproduced.spec
    log = RunLog.start(
        context.store,
        experiment_id=context.experiment_id,
        kind="final",
        name=f"final {plan.title}",
        params={**plan.params(spec.training.seed), "seeds": ",".join(map(str, plan.seeds))},
        tags={
            **context.tags,
            schema.TRIAL_FINGERPRINT: spec.fingerprint,
            schema.CONFIG_FINGERPRINT: spec.config_fingerprint,
            schema.FINAL_FINGERPRINT: plan.fingerprint,
            schema.OWNER: ProcessId.mine().text(token="", seen=time.time()),
        },
        inputs=task_inputs(context.task),
    )

    def write(folder: Path) -> None:
        write_spec(spec, folder)
        context.provenance.write(folder)

    log.artifacts(write)
    return log


def _train_seed(plan: FinalTrainingPlan, parent_id: str, seed: int, screen: Console) -> Path:
    """Train one seed and return the path of its weights."""
    run_id, result = train_seed(plan, parent_id, seed, kind="final_seed")
    seconds = sum(epoch.seconds for epoch in result.epochs)
    print_line(screen, f"seed {seed}: training loss {result.epochs[-1].train_loss:.4f}, {seconds:.0f} s")
    return plan.context.store.local_artifact(run_id, schema.SEED_WEIGHTS)


def _finish_run(plan: FinalTrainingPlan, log: RunLog, weights: list[Path]) -> None:
    """Log the ensemble and its metrics, and complete the run."""
    task = plan.context.task
    interval = _seed_interval(plan, weights) if len(weights) > 1 else None
    output = EnsembleOutput(calibration=plan.calibration, interval=interval)
    log_model(plan.context.store, log.run_id, task, plan.reproduced.spec, weights, output)
    metrics = {"n_params": plan.trial.metrics["n_params"], schema.TRAIN_BASE_RATE: task.training_base_rate}
    if interval:
        metrics["seed_interval_half_width"] = interval.half_width
    log.finish("complete", metrics={**metrics, **data_metrics(task)})


def _register(plan: FinalTrainingPlan, run_id: str) -> RegisteredVersion:
    """Register the ensemble as a version of the sweep's model, and each seed as a version of its `-seeds` model."""
    store, label = plan.context.store, plan.reproduced.spec.architecture.label
    name = f"{plan.reproduced.task.experiment}-{plan.title}"

    def register(model: str, run: str, description: str) -> RegisteredVersion:
        val_loss, study = plan.trial.metrics["val_loss"], plan.context.tags[schema.STUDY_FINGERPRINT]
        return register_apart(store, name=model, run_id=run, val_loss=val_loss, study=study, description=description)

    for run in query.children(store, plan.context.experiment_id, run_id):
        description = f"seed {run.params['seed']} of final run {run_id[:12]}: {label}, trained on {TRAINED_ON}."
        register(name + SEEDS_MODEL, run.run_id, description)
    seeds = f"{len(plan.seeds)} seed{'s' * (len(plan.seeds) != 1)}"
    return register(name, run_id, f"final: {label}, mean probability of {seeds}, trained on {TRAINED_ON}.")


def _seed_interval(plan: FinalTrainingPlan, weights: list[Path]) -> SeedInterval:
    """Return the interval over seeds from their predictions of the validation days, the newest before the test."""
    spec = plan.reproduced.spec
    dataset = plan.context.task.prepared.dataset(torch.device("cpu"))
    rows = dataset.rows(plan.reproduced.task.prepared.split.validation)
    models = (load_weights(spec.architecture, path, base_width=spec.training.base_width) for path in weights)
    return seed_interval(np.stack([predict_float64(model, dataset, rows) for model in models]))


def _print_plan(plan: FinalTrainingPlan, screen: Console) -> None:
    task, trial = plan.context.task, plan.trial
    days = task.prepared.days[task.prepared.split.train]
    epochs = f"{plan.stop_after} epoch{'s' if plan.stop_after > 1 else ''}"
    for line in (
        f"chosen     {trial.name} (run {trial.run_id[:12]}): {int(trial.metrics['n_params']):,} parameters, "
        f"val_loss {trial.metrics['val_loss']:.4f} after {epochs}",
        f"question   {task.spec.target.question} features {task.spec.features.feature_set}; "
        f"snapshot {task.snapshot.digest}, features and labels as in the trial",
        f"training   {len(days):,} rows {days.min():%Y-%m-%d} .. {days.max():%Y-%m-%d}: training and validation together, "
        "no label reaches into the test",
        f"length     {epochs} at the trial's learning rates; no validation rows are left for early stopping",
    ):
        print_line(screen, line)
