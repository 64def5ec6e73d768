"""One trial: train, score, and leave a complete run behind, whatever happens."""

from __future__ import annotations

import gc
import math
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipelines.trial.context import Context
from pipelines.trial.job import Job, Team, TrialResult
from pipelines.trial.placement import InfeasibleError, devices_for, micro_batch_for
from pipelines.trial.record import declared_params, require_applied, require_counted_size, trial_metrics, write_trial
from pipelines.trial.run_listener import Attempt, PrunedError, Report, RunListener
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
from research.training.trainer import Outcome as TrainingOutcome
from research.training.trainer import Trainer, TrainingResult, build_model, build_stack
from research.training.trial_state import DivergedError, EpochRecord


def run_trial(context: Context, job: Job, report: Callable[[EpochRecord], bool]) -> TrialResult:
    """`run_team` for a single job."""
    return run_team(context, (job,), lambda _, record: report(record))[0]


def run_team(context: Context, team: Team, report: Report) -> tuple[TrialResult, ...]:
    """Train the jobs side by side, each as a nested run of its own, from its checkpoint if there is one.

    Ctrl-C ends those that are still open as `interrupted`; a failure is recorded, not raised. A store that stays away or a
    mistake of the user's is raised: the trials are then tried again when their sweep goes on.
    """
    attempts: list[Attempt] = []
    try:
        # One by one, so that those that have begun are closed if the next one cannot.
        for job in team:
            attempts.append(_begun(context, job, report))  # noqa: PERF401
        _train(context, attempts)
    except KeyboardInterrupt:
        _close_open(attempts, "interrupted", "stopped by the user")
        raise
    except (StoreUnavailable, RunClosedError):
        raise
    except InputError as problem:
        _close_open(attempts, "crashed", str(problem)[:500])
        raise
    return tuple(attempt.ended for attempt in attempts if attempt.ended is not None)


def _begun(context: Context, job: Job, report: Report) -> Attempt:
    """The attempt's run, with the job's parameters, before anything else happens."""
    spec = job.spec
    checkpoint = context.checkpoint_of(spec)
    log = RunLog.start(
        context.store,
        experiment_id=context.experiment_id,
        kind=job.kind,
        name=job.name,
        params={**declared_params(spec, context), "number": job.number},
        tags={
            **context.tags,
            **job.tags,
            schema.TRIAL_FINGERPRINT: spec.fingerprint,
            schema.CONFIG_FINGERPRINT: spec.config_fingerprint,
            schema.WORKER: ProcessId.mine().text(),
            schema.FROM_EPOCH: str(epochs_done(checkpoint)),
            **context.how_computed(spec.architecture),
            **unknown_temperatures(context.runtime.device.type),
        },
        parent_id=context.parent_id,
        inputs=task_inputs(context.task),
    )
    return Attempt(job=job, log=log, listener=RunListener(log, lambda record: report(job, record)), checkpoint=checkpoint)


def _close_open(attempts: list[Attempt], outcome: Outcome, reason: str) -> None:
    for attempt in attempts:
        if attempt.ended is None:
            attempt.log.finish(outcome, tags={schema.REASON: reason})


def _train(context: Context, attempts: list[Attempt]) -> None:
    """Give every attempt its end. Where a stack fails as a whole, its trials go on alone from their checkpoints."""
    try:
        with ExitStack() as stack:
            for attempt in attempts:
                stack.enter_context(monitored(attempt.log))
            _within_memory(context, attempts)
    except (StoreUnavailable, RunClosedError, InputError):
        raise
    except Exception as problem:
        left = [attempt for attempt in attempts if attempt.ended is None]
        if len(attempts) == 1:
            _end(left[0], _failed(problem, left[0]))
            return
        for attempt in left:
            _train(context, [attempt])


def _end(attempt: Attempt, finished: TrialResult) -> None:
    attempt.ended = finished
    attempt.checkpoint.unlink(missing_ok=True)


def _failed(problem: Exception, attempt: Attempt) -> TrialResult:
    """Record why there is no result; the traceback goes with a crash only, the others are no mistakes of the code."""
    log = attempt.log
    log.require_open()
    outcome, reason = _classify(problem)
    if outcome == "crashed":
        text = "".join(traceback.format_exception(problem))
        log.artifacts(lambda folder: _write_text(folder / schema.TRACEBACK_FILE, text))
    metrics: dict[str, float] = {}
    if isinstance(problem, DivergedError):
        metrics = {"diverged_epoch": float(problem.epoch)}
    if isinstance(problem, PrunedError):
        metrics = {"pruned_epoch": float(problem.record.epoch), "val_loss_last": problem.record.val_loss}
    log.finish(outcome, metrics=metrics, tags={schema.REASON: reason[:500]})
    return replace(attempt.blank, outcome=outcome, reason=reason)


def _classify(problem: Exception) -> tuple[Outcome, str]:
    sentence = f"{type(problem).__name__}: {problem}".splitlines()[0]
    if isinstance(problem, DivergedError):
        return "diverged", str(problem)
    if isinstance(problem, PrunedError):
        return "pruned", str(problem)
    if isinstance(problem, InfeasibleError):
        return "infeasible", str(problem)
    if is_out_of_memory(problem):
        return "infeasible", f"out of memory with the smallest micro-batch: {sentence}"
    return "crashed", sentence


def _within_memory(context: Context, attempts: list[Attempt]) -> None:
    """Train on one device or, where a single trial does not fit it, on several of the worker's."""
    devices = devices_for(context, attempts[0].job) if len(attempts) == 1 else 1
    if devices > 1:
        _on_several_devices(context, attempts[0], devices)
    else:
        _on_one_device(context, attempts)


def _on_one_device(context: Context, attempts: list[Attempt]) -> None:
    """Train at the largest micro-batch that fits; where memory runs out all the same, go on with half of it."""
    micro_batch = micro_batch_for(context, attempts[0].job, len(attempts))
    while left := [attempt for attempt in attempts if attempt.ended is None]:
        # A checkpoint's own micro-batch is kept where it is the smaller; half of it is then half of what did not fit.
        micro_batch = min([micro_batch, *filter(None, (micro_batch_of(attempt.checkpoint) for attempt in left))])
        try:
            _attempt(context, left, micro_batch)
            return
        except Exception as problem:
            # In low memory weights are updated within the backward pass: there is one, over the whole batch.
            whole = left[0].job.spec.training.optimizer == "adafactor"
            if not is_out_of_memory(problem) or micro_batch == 1 or whole:
                raise
            reason = str(problem).splitlines()[0]
        # Outside the handler: the traceback held the model, and with it the memory that is needed now.
        _free_memory(context)
        micro_batch = math.ceil(micro_batch / 2)
        for attempt in left:
            attempt.log.tag(schema.HALVED, f"micro-batch {micro_batch} after: {reason}"[:500])


def _on_several_devices(context: Context, attempt: Attempt, devices: int) -> None:
    """Train on the first devices of the worker's group; where memory runs out all the same, go on with twice as many."""
    batch_size = attempt.job.spec.training.batch_size
    most = min(len(context.group), batch_size)
    # What torch keeps for this process is not free to those of the devices.
    _free_memory(context)
    while True:
        attempt.log.tag(schema.DEVICES, str(devices))
        try:
            _end(attempt, _complete(context, attempt, _trained_together(context, attempt, devices)))
            return
        except torch.OutOfMemoryError as problem:
            reason = str(problem).splitlines()[0]
            if devices == most:
                raise InfeasibleError(f"out of memory on {devices} devices: {reason}") from None
        devices = min(2 * devices, most)
        smaller = f"micro-batch {share_of(batch_size, devices)} on {devices} devices"
        attempt.log.tag(schema.HALVED, f"{smaller} after: {reason}"[:500])


def _free_memory(context: Context) -> None:
    gc.collect()
    if context.runtime.device.type == "cuda":
        torch.cuda.empty_cache()


def _attempt(context: Context, attempts: list[Attempt], micro_batch: int) -> None:
    specs = [attempt.job.spec for attempt in attempts]
    runtime = replace(context.runtime, micro_batch=micro_batch)
    architecture, trainings = specs[0].architecture, [spec.training for spec in specs]
    if len(specs) == 1:
        model = build_model(architecture, trainings[0], runtime.device)
    else:
        model = build_stack(architecture, trainings, runtime.device)
    trainer = Trainer(model, context.windows, context.task.prepared.split, trainings, runtime)
    for place, spec in enumerate(specs):
        _require_built(context, spec, parameters_of(model), applied_settings(trainer, place))

    def on_end(place: int, outcome: TrainingOutcome) -> None:
        attempt = attempts[place]
        ended = _complete(context, attempt, outcome) if isinstance(outcome, TrainingResult) else _failed(outcome, attempt)
        _end(attempt, ended)

    trainer.run_all([attempt.listener for attempt in attempts], [attempt.checkpoint for attempt in attempts], on_end)


def _trained_together(context: Context, attempt: Attempt, devices: int) -> TrainingResult:
    spec, prepared = attempt.job.spec, context.task.prepared
    shared = SharedTraining(
        architecture=spec.architecture,
        training=spec.training,
        windows=prepared.dataset,
        split=prepared.split,
        runtime=replace(context.runtime, threads=max(context.runtime.threads // devices, 1)),
        devices=context.group[:devices],
        checkpoint=attempt.checkpoint,
    )
    return train_across_devices(
        shared, attempt.listener, lambda built: _require_built(context, spec, built.parameters, built.settings)
    )


def _require_built(context: Context, spec: TrialSpec, parameters: int, settings: dict[str, Any]) -> None:
    """What was declared must be what is in use, and of the budget's size."""
    require_counted_size(parameters, spec.architecture, context.budget)
    require_applied(declared_params(spec, context), {**settings, **task_params(context.task)})


def _complete(context: Context, attempt: Attempt, result: TrainingResult) -> TrialResult:
    """Score a finished training and close its run with all that it left."""
    task, spec, log = context.task, attempt.job.spec, attempt.log
    found = scores(result.val_logits, task.prepared.labels_of("validation"), task.training_base_rate, task.validation_days)
    n_parameters = parameter_count(spec.architecture)
    ended = replace(
        attempt.blank,
        outcome="complete",
        n_parameters=n_parameters,
        scores=found,
        alarm=alarm(found),
        seconds=sum(r.seconds for r in result.epochs),
    )
    log.require_open()
    # Only a model that leads its sweep when it ends can become the sweep's best; the others leave no weights.
    kept = result.weights if found.loss < attempt.job.leading_loss else None
    log.artifacts(lambda folder: write_trial(folder, context, spec, result, found, kept))
    metrics = trial_metrics(context, spec, result, found, n_parameters)
    log.finish("complete", metrics=metrics, tags={schema.ALARM: ended.alarm})
    return ended


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
