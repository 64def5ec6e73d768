"""One trial at a time, in the driver's own process: the simplest to follow, and the same to the bit every time."""

from __future__ import annotations

from pipelines.executors.base import Watcher
from pipelines.job import Ended, Job
from pipelines.trial import run_trial
from pipelines.trial_record import Context


class InProcess:
    """Runs the submitted job when it is waited for."""

    def __init__(self, context: Context):
        self._context = context.on_device()
        self._job: Job | None = None

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def submit(self, job: Job) -> None:
        """Remember the job."""
        assert self._job is None
        self._job = job

    def wait(self, watcher: Watcher) -> Ended:
        """Run it."""
        job, self._job = self._job, None
        assert job is not None
        return Ended(job=job, finished=run_trial(self._context, job, lambda record: watcher.on_epoch(job, record)))

    def close(self) -> None:
        """Nothing outlives a call."""
