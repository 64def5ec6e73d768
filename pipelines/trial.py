"""One trial: train, score, and leave a complete run behind, whatever happens."""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from pipelines.job import Finished, Job
from pipelines.trial_record import (
    Context,
    applied,
    counted,
    declared,
    require_applied,
    trial_metrics,
    write_trial,
)
from research.runtime import available_memory
from research.spec import InputError
from research.tracking import schema
from research.tracking.monitor import monitored, unknown_temperatures
from research.tracking.owner import ProcessId
from research.tracking.patience import StoreUnavailable
from research.tracking.runs import RunClosedError, RunLog
from research.tracking.schema import Outcome
from research.training.checkpoint import epochs_done, micro_batch_of
from research.training.memory import choose_micro_batch, peak_memory
from research.training.metrics import alarm, scores
from research.training.trainer import DivergedError, EpochRecord, Trainer, TrainingResult, build_model

PROGRESS_SECONDS = 5.0
Report = Callable[[EpochRecord], bool]
"""Is told of each epoch and says whether the trial should go on."""


class PrunedError(Exception):
    """The pruner stopped the trial."""

    def __init__(self, record: EpochRecord):
        super().__init__(f"fell behind the other trials by epoch {record.epoch}")
        self.record = record


class InfeasibleError(Exception):
    """The model does not fit the memory even one window at a time."""


class RunListener:
    """Sends epochs and steps to the run's curves and asks whether to go on."""

    def __init__(self, log: RunLog, report: Report):
        self._log = log
        self._report = report
        self._last_epoch = 0
        self._next_progress = time.monotonic() + PROGRESS_SECONDS

    def on_step(self, step: int) -> None:
        """Say every few seconds how far training is, so that others can see it move."""
        if time.monotonic() >= self._next_progress:
            self._log.metric(schema.PROGRESS_STEP, step, step=step)
            self._log.flush()
            self._next_progress = time.monotonic() + PROGRESS_SECONDS

    def on_epoch(self, record: EpochRecord) -> None:
        """Buffer the epoch's values, once even if training starts again from a checkpoint."""
        if record.epoch <= self._last_epoch:
            return
        self._last_epoch = record.epoch
        for name, value in asdict(record).items():
            if name != "epoch":
                self._log.metric(f"{schema.EPOCH_PREFIX}{name}", value, step=record.epoch)
        if not self._report(record):
            raise PrunedError(record)


def run_trial(context: Context, job: Job, report: Report) -> Finished:
    """Train a job's spec as a nested run, from its checkpoint if there is one.

    Ctrl-C ends it as `interrupted`; a failure is recorded, not raised. A store that stays away or a mistake of the
    user's is raised: the trial is then tried again when its sweep goes on.
    """
    spec = job.spec
    checkpoint = context.checkpoint_of(spec)
    log = RunLog.start(
        context.store,
        experiment_id=context.experiment_id,
        kind=job.kind,
        name=job.name,
        params={**declared(spec, context), "number": job.number},
        tags={
            **context.tags,
            **job.tags,
            schema.TRIAL_FINGERPRINT: spec.fingerprint,
            schema.CONFIG_FINGERPRINT: spec.config_fingerprint,
            schema.WORKER: ProcessId.mine().text(),
            schema.FROM_EPOCH: str(epochs_done(checkpoint)),
            **unknown_temperatures(context.runtime.device.type),
        },
        parent_id=context.parent_id,
        inputs=context.study.inputs(),
    )
    failed = Finished(run_id=log.run_id, name=job.name, kind=job.kind, outcome="crashed", spec=spec, number=job.number)
    failed = replace(failed, proposed_by=job.tags.get(schema.PROPOSED_BY, ""))
    try:
        ended = _trained(context, job, log, failed, checkpoint, report)
    except KeyboardInterrupt:
        log.finish("interrupted", tags={schema.REASON: "stopped by the user"})
        raise
    except (StoreUnavailable, RunClosedError):
        raise
    except InputError as problem:
        log.finish("crashed", tags={schema.REASON: str(problem)[:500]})
        raise
    except Exception as problem:
        ended = _failed(problem, log, failed)
    checkpoint.unlink(missing_ok=True)
    return ended


def _failed(problem: Exception, log: RunLog, failed: Finished) -> Finished:
    """Record why there is no result; the traceback goes with a crash only, the others are no mistakes of the code."""
    log.require_open()
    outcome, reason = _classify(problem)
    if outcome == "crashed":
        text = traceback.format_exc()
        log.artifacts(lambda folder: _write_text(folder / schema.TRACEBACK_FILE, text))
    metrics: dict[str, float] = {}
    if isinstance(problem, DivergedError):
        metrics = {"diverged_epoch": float(problem.epoch)}
    if isinstance(problem, PrunedError):
        metrics = {"pruned_epoch": float(problem.record.epoch), "val_loss_last": problem.record.val_loss}
    log.finish(outcome, metrics=metrics, tags={schema.REASON: reason[:500]})
    return replace(failed, outcome=outcome, reason=reason)


def _classify(problem: Exception) -> tuple[Outcome, str]:
    sentence = f"{type(problem).__name__}: {problem}".splitlines()[0]
    if isinstance(problem, DivergedError):
        return "diverged", str(problem)
    if isinstance(problem, PrunedError):
        return "pruned", str(problem)
    if isinstance(problem, InfeasibleError):
        return "infeasible", str(problem)
    if is_out_of_memory(problem):
        return "infeasible", f"out of memory one window at a time: {sentence}"
    return "crashed", sentence


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out, on the device or on the host."""
    return isinstance(problem, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(problem)


def _trained(context: Context, job: Job, log: RunLog, blank: Finished, checkpoint: Path, report: Report) -> Finished:
    study, spec = context.study, job.spec
    with monitored(log):
        result, trainer = _within_memory(context, job, log, checkpoint, RunListener(log, report))
    n_parameters = counted(trainer.model, context.budget)
    found = scores(result.val_logits, study.prepared.labels_of("validation"), study.training_base_rate, study.validation_days)
    ended = replace(
        blank,
        outcome="complete",
        n_parameters=n_parameters,
        scores=found,
        alarm=alarm(found),
        seconds=sum(r.seconds for r in result.epochs),
    )
    log.require_open()
    # Only a model that leads its sweep when it ends can become the sweep's best; the others leave no weights.
    kept = trainer.model if found.loss < job.leading_loss else None
    log.artifacts(lambda folder: write_trial(folder, context, spec, result, found, kept))
    log.finish("complete", metrics=trial_metrics(context, spec, result, found, n_parameters), tags={schema.ALARM: ended.alarm})
    return ended


def _within_memory(
    context: Context, job: Job, log: RunLog, checkpoint: Path, listener: RunListener
) -> tuple[TrainingResult, Trainer]:
    """Train at the largest micro-batch that fits; where memory runs out all the same, go on with half of it."""
    micro_batch = _micro_batch(context, job)
    while True:
        # A checkpoint's own micro-batch is kept where it is the smaller; half of it is then half of what did not fit.
        micro_batch = min(micro_batch, micro_batch_of(checkpoint) or micro_batch)
        try:
            return _attempt(context, job, checkpoint, listener, micro_batch)
        except Exception as problem:
            if not is_out_of_memory(problem) or micro_batch == 1:
                raise
            reason = str(problem).splitlines()[0]
        # Outside the handler: the traceback held the model, and with it the memory that is needed now.
        gc.collect()
        if context.runtime.device.type == "cuda":
            torch.cuda.empty_cache()
        micro_batch = math.ceil(micro_batch / 2)
        log.tag(schema.HALVED, f"micro-batch {micro_batch} after: {reason}"[:500])


def _micro_batch(context: Context, job: Job) -> int:
    """The user's, or the largest that the free memory of this machine, shared with its other workers, has room for."""
    batch_size, device = job.spec.training.batch_size, context.runtime.device
    if context.runtime.micro_batch:
        return min(context.runtime.micro_batch, batch_size)
    free = int(available_memory(device) * context.memory_share)
    chosen = choose_micro_batch(job.spec.architecture, batch_size, free, device)
    if chosen is None:
        needed = peak_memory(job.spec.architecture, 1, device)
        raise InfeasibleError(f"needs {needed / 1e9:.1f} GB one window at a time; {free / 1e9:.1f} GB are free for it")
    return chosen


def _attempt(
    context: Context, job: Job, checkpoint: Path, listener: RunListener, micro_batch: int
) -> tuple[TrainingResult, Trainer]:
    spec = job.spec
    runtime = replace(context.runtime, micro_batch=micro_batch)
    model = build_model(spec.architecture, spec.training, runtime.device)
    counted(model, context.budget)
    trainer = Trainer(model, context.windows, context.study.prepared.split, spec.training, runtime)
    require_applied(declared(spec, context), applied(model, trainer, context.study))
    return trainer.run(listener, checkpoint), trainer


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
