"""The last training: one configuration, all rows before the test, several fresh seeds, one ensemble."""

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
"""End of the name under which the single seeds of all final runs of a model are registered."""


def train_final(store: Store, options: TrainOptions, console: Console) -> str:
    """Train, log and register; returns the run id of the final run, of the one that is there if it has been trained."""
    plan = plan_training(store, options)
    _print_opening(plan, console)
    with only_driver(store, f"final-{plan.fingerprint}", "training"):
        close_dead_runs(store)
        done = query.runs_with_tag(
            store, plan.context.experiment_id, schema.FINAL_FINGERPRINT, plan.fingerprint, kinds=("final",)
        )
        # A model without code of its own answers no longer: it is trained and registered again.
        if known := next((run for run in done if run.outcome == "complete" and has_own_code(store, run.run_id)), None):
            # A kill after the last word to the run may have come before the version.
            _register(plan, known.run_id)
            console.print(f"trained before as run {known.run_id}; nothing to do", highlight=False)
            print_next(console, options.store, f"make evaluate RUN={known.run_id[:12]}")
            return known.run_id
        log = _open(plan)
        with log.ending(), DriverLease(log):
            weights = [_train_seed(plan, log.run_id, seed, console) for seed in plan.seeds]
            _conclude(plan, log, weights)
        registered = _register(plan, log.run_id)
    console.print(
        f"\nregistered {registered.name} version {registered.version}, its single seeds as {registered.name}{SEEDS_MODEL}; "
        "no alias was moved",
        soft_wrap=True,
        highlight=False,
    )
    print_next(console, options.store, f"make evaluate RUN={log.run_id[:12]}")
    console.print("      it opens the test days, once", highlight=False)
    return log.run_id


def _open(plan: FinalTrainingPlan) -> RunLog:
    """The parent, with what its seeds share; the spec beside it is the trial's own."""
    context, spec = plan.context, plan.known.spec
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


def _train_seed(plan: FinalTrainingPlan, parent_id: str, seed: int, console: Console) -> Path:
    """Train one seed; returns where its weights lie."""
    run_id, result = train_seed(plan, parent_id, seed, kind="final_seed")
    seconds = sum(one.seconds for one in result.epochs)
    console.print(f"seed {seed}: training loss {result.epochs[-1].train_loss:.4f}, {seconds:.0f} s", highlight=False)
    return plan.context.store.local_artifact(run_id, schema.SEED_WEIGHTS)


def _conclude(plan: FinalTrainingPlan, log: RunLog, weights: list[Path]) -> None:
    task = plan.context.task
    interval = _interval(plan, weights) if len(weights) > 1 else None
    answering = EnsembleOutput(calibration=plan.calibration, interval=interval)
    log_model(plan.context.store, log.run_id, task, plan.known.spec, weights, answering)
    told = {"n_params": plan.trial.metrics["n_params"], schema.TRAIN_BASE_RATE: task.training_base_rate}
    width = {"seed_interval_half_width": interval.half_width} if interval else {}
    log.finish("complete", metrics={**told, **width, **data_metrics(task)})


def _register(plan: FinalTrainingPlan, run_id: str) -> RegisteredVersion:
    """The ensemble as a version of the sweep's model, each single seed as one of a model beside it."""
    store, label = plan.context.store, plan.known.spec.architecture.label
    name = f"{plan.known.task.experiment}-{plan.title}"

    def version(model: str, run: str, description: str) -> RegisteredVersion:
        val_loss, study = plan.trial.metrics["val_loss"], plan.context.tags[schema.STUDY_FINGERPRINT]
        return register_apart(store, name=model, run_id=run, val_loss=val_loss, study=study, description=description)

    for one in query.children(store, plan.context.experiment_id, run_id):
        told = f"seed {one.params['seed']} of final run {run_id[:12]}: {label}, trained on {TRAINED_ON}."
        version(name + SEEDS_MODEL, one.run_id, told)
    told = f"final: {label}, mean probability of {len(plan.seeds)} seed{'s' * (len(plan.seeds) != 1)}, trained on {TRAINED_ON}."
    return version(name, run_id, told)


def _interval(plan: FinalTrainingPlan, weights: list[Path]) -> SeedInterval:
    """From what the seeds say of the validation days: they are the newest before the test."""
    spec = plan.known.spec
    dataset = plan.context.task.prepared.dataset(torch.device("cpu"))
    rows = dataset.rows(plan.known.task.prepared.split.validation)
    models = (load_weights(spec.architecture, one, base_width=spec.training.base_width) for one in weights)
    return seed_interval(np.stack([predict_float64(model, dataset, rows) for model in models]))


def _print_opening(plan: FinalTrainingPlan, console: Console) -> None:
    task, trial = plan.context.task, plan.trial
    days = task.prepared.days[task.prepared.split.train]
    epochs = f"{plan.stop_after} epoch{'s' if plan.stop_after > 1 else ''}"
    for line in (
        f"chosen     {trial.name} (run {trial.run_id[:12]}): {int(trial.metrics['n_params']):,} parameters, "
        f"val_loss {trial.metrics['val_loss']:.4f} after {epochs}",
        f"question   {task.spec.target.question} features {task.spec.features.feature_set}; "
        f"snapshot {task.snapshot.digest}, features and labels as they were",
        f"training   {len(days):,} rows {days.min():%Y-%m-%d} .. {days.max():%Y-%m-%d}: training and validation together, "
        "no label reaches into the test",
        f"length     {epochs} at the trial's own learning rates; nothing is left to stop on",
    ):
        console.print(line, soft_wrap=True, highlight=False)
