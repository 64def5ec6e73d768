"""An attempt at a trial: the job, its run, and the listener that takes the curve there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.trial.job import Job, TrialResult
from research.tracking import schema
from research.tracking.run_writer import RunLog
from research.training.trainer import TrialOver
from research.training.trial_state import EpochRecord

PROGRESS_SECONDS = 5.0
Report = Callable[[Job, EpochRecord], bool]
"""Is told of each epoch of a job and says whether its trial should go on."""


class PrunedError(TrialOver):
    """The pruner stopped the trial."""

    def __init__(self, record: EpochRecord):
        super().__init__(f"fell behind the other trials by epoch {record.epoch}")
        self.record = record


class RunListener:
    """Sends epochs and steps to the run's curves and asks whether to go on."""

    def __init__(self, log: RunLog, report: Callable[[EpochRecord], bool]):
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
            # A last training has nothing to validate on.
            if name != "epoch" and not math.isnan(value):
                self._log.metric(f"{schema.EPOCH_PREFIX}{name}", value, step=record.epoch)
        if not self._report(record):
            raise PrunedError(record)


@dataclass(kw_only=True)
class Attempt:
    """A job with the run that holds this attempt at it."""

    job: Job
    log: RunLog
    listener: RunListener
    checkpoint: Path
    ended: TrialResult | None = None

    @property
    def blank(self) -> TrialResult:
        """What is known before anything was trained."""
        job = self.job
        by = job.tags.get(schema.PROPOSED_BY, "")
        return TrialResult(
            run_id=self.log.run_id,
            name=job.name,
            kind=job.kind,
            outcome="crashed",
            spec=job.spec,
            number=job.number,
            proposed_by=by,
        )
