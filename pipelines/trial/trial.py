"""Train the jobs of a stack and leave one complete run for each of them, whatever happens.

Calls run from top to bottom: `run_stack`, `_train`, `_train_on_one_device`, `_train_at`, and `Trainer.run_all`.
"""

from __future__ import annotations

import gc
import math
import traceback
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipelines.trial.context import WorkerContext, numerics_tags
from pipelines.trial.job import Job, JobStack, TrialResult
from pipelines.trial.placement import InfeasibleError, devices_for, micro_batch_for
from pipelines.trial.record import declared_params, require_applied, require_counted_size, trial_metrics, write_trial
from pipelines.trial.run_listener import EpochCallback, PrunedError, RunListener, TrialRun
from pipelines.trial.task_record import task_inputs, task_params
from research.errors import InputError
from research.evaluation.metrics import alarm, scores
from research.models.accounting import parameter_count
from research.runtime import is_out_of_memory
from research.spec import TrialSpec
from research.tracking import schema
from research.tracking.process_identity import ProcessId
from research.tracking.retry import StoreUnavailable
from research.tracking.run_writer import RunClosedError, RunLog
from research.tracking.schema import Outcome
from research.tracking.system_metrics import monitored, unknown_temperatures
from research.training.applied_settings import applied_settings, parameters_of
from research.training.checkpoint import epochs_done, micro_batch_of
from research.training.distributed.fsdp import share_of
from research.training.distributed.launcher import train_across_devices
from research.training.distributed.worker import SharedTraining
from research.training.trainer import Trainer, TrainingResult, build_model, build_stack
from research.training.trial_state import DivergedError


def run_stack(worker: WorkerContext, stack: JobStack, report: EpochCallback) -> tuple[TrialResult, ...]:
    """Train the jobs as one model, each from its checkpoint if there is one and as a nested run of its own.

    Ctrl-C closes the open runs as `interrupted`. A failed trial is recorded, not raised. An unavailable store or a user's
    error is raised, and the trials are tried again when their sweep is continued.
    """
    runs: list[TrialRun] = []
    try:
        # One by one, so that the open runs are closed if the next one cannot be opened.
        for job in stack:
            runs.append(_open_run(worker, job, report))  # noqa: PERF401
        _train(worker, runs)
    except KeyboardInterrupt:
        _close_open(runs, "interrupted", "stopped by the user")
        raise
    except (StoreUnavailable, RunClosedError):
        raise
    except InputError as error:
        _close_open(runs, "crashed", str(error)[:500])
        raise
    return tuple(run.result for run in runs if run.result is not None)


def _open_run(worker: WorkerContext, job: Job, report: EpochCallback) -> TrialRun:
    """Open the job's run with its parameters, before anything is trained."""
    sweep, spec = worker.sweep, job.spec
    checkpoint = sweep.checkpoint_of(spec)
    log = RunLog.start(
        sweep.store,
        experiment_id=sweep.experiment_id,
        kind=job.kind,
        name=job.name,
        params={**declared_params(spec, sweep.budget), "number": job.number},
        tags={
            **sweep.tags,
            **job.tags,
            schema.TRIAL_FINGERPRINT: spec.fingerprint,
            schema.CONFIG_FINGERPRINT: spec.config_fingerprint,
            schema.WORKER: ProcessId.mine().text(),
            schema.FROM_EPOCH: str(epochs_done(checkpoint)),
            **numerics_tags(worker.runtime, spec.architecture),
            **unknown_temperatures(worker.runtime.device.type),
        },
        parent_id=sweep.parent_id,
        inputs=task_inputs(sweep.task),
    )
    return TrialRun(job=job, log=log, listener=RunListener(log, lambda record: report(job, record)), checkpoint=checkpoint)


def _close_open(runs: list[TrialRun], outcome: Outcome, reason: str) -> None:
    for run in runs:
        if run.result is None:
            run.log.finish(outcome, tags={schema.REASON: reason})


def _train(worker: WorkerContext, runs: list[TrialRun]) -> None:
    """Train until every run has its result. If a stack fails as a whole, its trials continue alone from their checkpoints."""
    try:
        with ExitStack() as monitors:
            for run in runs:
                monitors.enter_context(monitored(run.log))
            devices = devices_for(runs[0].job.spec, worker.resources) if len(runs) == 1 else 1
            if devices > 1:
                _train_on_several_devices(worker, runs[0], devices)
            else:
                _train_on_one_device(worker, runs)
    except (StoreUnavailable, RunClosedError, InputError):
        raise
    except Exception as error:
        open_runs = [run for run in runs if run.result is None]
        if len(runs) == 1:
            _record_failure(open_runs[0], error)
            return
        for run in open_runs:
            _train(worker, [run])


def _train_on_one_device(worker: WorkerContext, runs: list[TrialRun]) -> None:
    """Train at the largest micro-batch that should fit, and halve it whenever memory runs out."""
    micro_batch = micro_batch_for(runs[0].job.spec, worker.resources, len(runs))
    while open_runs := [run for run in runs if run.result is None]:
        # The micro-batch of a checkpoint is kept if it is smaller: half of it is then half of what did not fit.
        micro_batch = min([micro_batch, *filter(None, (micro_batch_of(run.checkpoint) for run in open_runs))])
        try:
            _train_at(worker, open_runs, micro_batch)
            return
        except Exception as error:
            # Low-memory training updates weights within the backward pass, so the batch cannot be split.
            one_pass = open_runs[0].job.spec.training.optimizer == "adafactor"
            if not is_out_of_memory(error) or micro_batch == 1 or one_pass:
                raise
            reason = str(error).splitlines()[0]
        # Outside the handler: the traceback kept the model, and with it the memory that is needed now.
        _free_memory(worker)
        micro_batch = math.ceil(micro_batch / 2)
        for run in open_runs:
            run.log.tag(schema.HALVED, f"micro-batch {micro_batch} after: {reason}"[:500])


def _train_at(worker: WorkerContext, runs: list[TrialRun], micro_batch: int) -> None:
    """Build the model, check it against the specs, and train it at this micro-batch."""
    specs = [run.job.spec for run in runs]
    runtime = replace(worker.runtime, micro_batch=micro_batch)
    architecture, trainings = specs[0].architecture, [spec.training for spec in specs]
    if len(specs) == 1:
        model = build_model(architecture, trainings[0], runtime.device)
    else:
        model = build_stack(architecture, trainings, runtime.device)
    trainer = Trainer(model, worker.windows, worker.sweep.task.prepared.split, trainings, runtime)
    for index, spec in enumerate(specs):
        _require_built(worker, spec, parameters_of(model), applied_settings(trainer, index))

    def record_end(index: int, end: TrainingResult | Exception) -> None:
        if isinstance(end, TrainingResult):
            _record_result(worker, runs[index], end)
        else:
            _record_failure(runs[index], end)

    trainer.run_all([run.listener for run in runs], [run.checkpoint for run in runs], record_end)


def _train_on_several_devices(worker: WorkerContext, run: TrialRun, devices: int) -> None:
    """Train on the first of the worker's devices, and double their number whenever memory runs out."""
    spec, prepared = run.job.spec, worker.sweep.task.prepared
    limit = min(len(worker.resources.devices), spec.training.batch_size)
    # The memory that torch keeps for this process is not free for the processes of the devices.
    _free_memory(worker)
    while True:
        run.log.tag(schema.DEVICES, str(devices))
        shared = SharedTraining(
            architecture=spec.architecture,
            training=spec.training,
            windows=prepared.dataset,
            split=prepared.split,
            runtime=replace(worker.runtime, threads=max(worker.runtime.threads // devices, 1)),
            devices=worker.resources.devices[:devices],
            checkpoint=run.checkpoint,
        )
        try:
            result = train_across_devices(
                shared, run.listener, lambda built: _require_built(worker, spec, built.parameters, built.settings)
            )
            _record_result(worker, run, result)
            return
        except torch.OutOfMemoryError as error:
            reason = str(error).splitlines()[0]
            if devices == limit:
                raise InfeasibleError(f"out of memory on {devices} devices: {reason}") from None
        devices = min(2 * devices, limit)
        smaller = f"micro-batch {share_of(spec.training.batch_size, devices)} on {devices} devices"
        run.log.tag(schema.HALVED, f"{smaller} after: {reason}"[:500])


def _free_memory(worker: WorkerContext) -> None:
    gc.collect()
    if worker.runtime.device.type == "cuda":
        torch.cuda.empty_cache()


def _require_built(worker: WorkerContext, spec: TrialSpec, parameters: int, settings: dict[str, Any]) -> None:
    """Raise if the built model differs from its declared parameters or does not fit the budget."""
    budget = worker.sweep.budget
    require_counted_size(parameters, spec.architecture, budget)
    require_applied(declared_params(spec, budget), {**settings, **task_params(worker.sweep.task)})


def _record_result(worker: WorkerContext, run: TrialRun, result: TrainingResult) -> None:
    """Score a finished training and close its run with metrics and artifacts."""
    task, spec, log = worker.sweep.task, run.job.spec, run.log
    val_scores = scores(result.val_logits, task.prepared.labels_of("validation"), task.training_base_rate, task.validation_days)
    n_parameters = parameter_count(spec.architecture)
    trial_result = replace(
        run.result_without_scores("complete"),
        n_parameters=n_parameters,
        scores=val_scores,
        alarm=alarm(val_scores),
        seconds=sum(epoch.seconds for epoch in result.epochs),
    )
    log.require_open()
    # Only a model that leads its sweep at its end can become the sweep's best. The others leave no weights.
    weights = result.weights if val_scores.loss < run.job.leading_loss else None
    log.artifacts(lambda folder: write_trial(folder, worker.sweep, spec, result, val_scores, weights))
    metrics = trial_metrics(worker, spec, result, val_scores, n_parameters)
    log.finish("complete", metrics=metrics, tags={schema.ALARM: trial_result.alarm})
    run.end(trial_result)


def _record_failure(run: TrialRun, error: Exception) -> None:
    """Close the run with the reason for the missing result. Only a crash, an error of the code, adds its traceback."""
    log = run.log
    log.require_open()
    outcome, reason = _classify(error)
    if outcome == "crashed":
        text = "".join(traceback.format_exception(error))

        def write_traceback(folder: Path) -> None:
            (folder / schema.TRACEBACK_FILE).write_text(text)

        log.artifacts(write_traceback)
    metrics: dict[str, float] = {}
    if isinstance(error, DivergedError):
        metrics = {"diverged_epoch": float(error.epoch)}
    if isinstance(error, PrunedError):
        metrics = {"pruned_epoch": float(error.record.epoch), "val_loss_last": error.record.val_loss}
    log.finish(outcome, metrics=metrics, tags={schema.REASON: reason[:500]})
    run.end(run.result_without_scores(outcome, reason))


def _classify(error: Exception) -> tuple[Outcome, str]:
    if isinstance(error, DivergedError):
        return "diverged", str(error)
    if isinstance(error, PrunedError):
        return "pruned", str(error)
    if isinstance(error, InfeasibleError):
        return "infeasible", str(error)
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    if is_out_of_memory(error):
        return "infeasible", f"out of memory with the smallest micro-batch: {line}"
    return "crashed", line
