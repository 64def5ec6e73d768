"""The interface between a sweep's driver and the workers that train its trials."""

from __future__ import annotations

from typing import Protocol

from pipelines.trial.job import JobStack, StackResult
from pipelines.trial.run_listener import EpochCallback


class Executor(Protocol):
    """Trains stacks of jobs side by side. Workers write their runs to the store themselves, and only results come back."""

    @property
    def slots(self) -> int:
        """Number of stacks that run at a time."""

    def submit(self, stack: JobStack) -> None:
        """Start a stack. At most `slots` may be open."""

    def wait(self, report: EpochCallback) -> StackResult:
        """Block until a stack ends, and report epochs meanwhile. A dead worker gives a `StackResult` with `lost`."""

    def close(self) -> None:
        """Stop running stacks as `interrupted` and free all resources."""
