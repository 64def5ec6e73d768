"""The interface between the driver and whatever trains its trials."""

from __future__ import annotations

from typing import Protocol

from pipelines.trial.job import Job, StackResult, Team
from research.training.trial_state import EpochRecord


class EpochCallback(Protocol):
    """Hears of running jobs, in the driver's process."""

    def on_epoch(self, job: Job, record: EpochRecord) -> bool:
        """An epoch of a job ended; False asks for the job to be pruned."""


class Executor(Protocol):
    """Runs teams of jobs side by side. Workers write their runs to the store themselves; only results come back."""

    @property
    def slots(self) -> int:
        """Teams that it runs at a time."""

    def submit(self, team: Team) -> None:
        """Start a team; at most `slots` may be open."""

    def wait(self, watcher: EpochCallback) -> StackResult:
        """Block until a team ends, passing on epochs meanwhile. A worker that dies is an `StackResult` with `lost`."""

    def close(self) -> None:
        """Stop what is still running, as `interrupted`, and free everything."""
