"""One run of a trial, and the listener that writes its curves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.trial.job import Job, TrialResult
from research.tracking import schema
from research.tracking.run_writer import RunLog
from research.tracking.schema import Outcome
from research.training.trainer import TrialOver
from research.training.trial_state import EpochRecord

PROGRESS_SECONDS = 5.0
EpochCallback = Callable[[Job, EpochRecord], bool]
"""Receives each finished epoch of a job. Returns False to prune its trial."""


class PrunedError(TrialOver):
    """The pruner stopped the trial."""

    def __init__(self, record: EpochRecord):
        super().__init__(f"fell behind the other trials by epoch {record.epoch}")
        self.record = record


class RunListener:
    """Writes epochs and steps to the run's curves, and stops the trial if `report` returns False."""

    def __init__(self, log: RunLog, report: Callable[[EpochRecord], bool]):
        self._log = log
        self._report = report
        self._last_epoch = 0
        self._next_progress = time.monotonic() + PROGRESS_SECONDS

    def on_step(self, step: int) -> None:
        """Write the step every few seconds, so that other processes can follow the training."""
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
            # Final training has no validation rows: its validation loss is NaN.
            if name != "epoch" and not math.isnan(value):
                self._log.metric(f"{schema.EPOCH_PREFIX}{name}", value, step=record.epoch)
        if not self._report(record):
            raise PrunedError(record)


@dataclass(kw_only=True)
class TrialRun:
    """A job and the open run that records it."""

    job: Job
    log: RunLog
    listener: RunListener
    checkpoint: Path
    result: TrialResult | None = None
    """Result of the run, or None while it is open."""

    def end(self, result: TrialResult) -> None:
        """Keep the result and delete the checkpoint."""
        self.result = result
        self.checkpoint.unlink(missing_ok=True)

    def result_without_scores(self, outcome: Outcome, reason: str = "") -> TrialResult:
        """Return a result with the job's own fields."""
        job = self.job
        return TrialResult(
            run_id=self.log.run_id,
            name=job.name,
            kind=job.kind,
            outcome=outcome,
            reason=reason,
            spec=job.spec,
            number=job.number,
            proposed_by=job.tags.get(schema.PROPOSED_BY, ""),
        )
