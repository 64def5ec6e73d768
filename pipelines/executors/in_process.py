"""One stack at a time in the driver's own process. Results are the same to the bit every time."""

from __future__ import annotations

from pipelines.trial.context import WorkerContext
from pipelines.trial.job import JobStack, StackResult
from pipelines.trial.run_listener import EpochCallback
from pipelines.trial.trial import run_stack


class InProcess:
    """Trains the submitted stack inside `wait`."""

    def __init__(self, worker: WorkerContext):
        self._worker = worker
        self._stack: JobStack | None = None

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def submit(self, stack: JobStack) -> None:
        """Keep the stack until `wait`."""
        assert self._stack is None
        self._stack = stack

    def wait(self, report: EpochCallback) -> StackResult:
        """Train the stack."""
        stack, self._stack = self._stack, None
        assert stack is not None
        return StackResult(stack=stack, results=run_stack(self._worker, stack, report))

    def close(self) -> None:
        """Do nothing, since no worker outlives `wait`."""
