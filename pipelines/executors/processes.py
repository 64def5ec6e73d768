"""Trials side by side in processes of this machine, each with its share of cores or an accelerator of its own."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pickle import UnpicklingError
from typing import NamedTuple

from pipelines.trial.context import DeviceGroup, SweepContext, WorkerContext, WorkerResources
from pipelines.trial.job import Job, JobStack, StackResult, TrialResult
from pipelines.trial.run_listener import EpochCallback
from pipelines.trial.trial import run_stack
from research.errors import InputError
from research.processes import PIPE_BROKEN, STOP_SIGNALS, die_with_parent, signals_deferred
from research.runtime import Runtime
from research.training.trial_state import EpochRecord

GRACE_SECONDS = 20.0
"""Time in which stopped workers may close their runs."""
READY = "ready"
Result = tuple[TrialResult, ...]


class EpochMessage(NamedTuple):
    """An epoch that a worker reports."""

    job_index: int
    """Index of the job in the worker's stack."""
    record: EpochRecord


@dataclass(kw_only=True)
class Worker:
    """A process and the driver's end of its pipe."""

    process: SpawnProcess
    pipe: Connection
    resources: WorkerResources
    stack: JobStack | None = None
    ready: bool = False
    """True once the process is up. Before that it has no run to close."""

    def send(self, *messages: object) -> None:
        """Send the messages. `wait` detects a worker that has died."""
        with suppress(*PIPE_BROKEN):
            for message in messages:
                self.pipe.send(message)


class Processes:
    """A fixed number of worker processes, each on its devices. A dead worker is replaced when it is next needed."""

    def __init__(self, sweep: SweepContext, runtime: Runtime, groups: Sequence[DeviceGroup]):
        # Each CUDA device has memory of its own. All other memory is shared.
        share = 1.0 / max(sum(group[0].type != "cuda" for group in groups), 1)
        self._sweep = sweep.portable()
        self._resources = [
            WorkerResources(runtime=replace(runtime, device=group[0]), devices=group, memory_share=share) for group in groups
        ]
        self._workers: list[Worker | None] = [None for _ in groups]
        self._mp = multiprocessing.get_context("spawn")

    @property
    def slots(self) -> int:
        """One per group of devices."""
        return len(self._workers)

    def submit(self, stack: JobStack) -> None:
        """Send the stack to an idle worker. A new worker takes seconds to start and gets it when it is ready."""
        index = next(i for i, worker in enumerate(self._workers) if worker is None or worker.stack is None)
        worker = self._workers[index]
        if worker is None or not worker.process.is_alive():
            worker = self._start(index)
        worker.stack = stack
        if worker.ready:
            worker.send(stack)

    def wait(self, report: EpochCallback) -> StackResult:
        """Return the next result or lost worker."""
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker is not None and worker.stack is not None}
            assert busy
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                worker = busy[ready]
                assert worker.stack is not None
                message = _receive(ready)
                if message == READY:
                    worker.ready = True
                    worker.send(self._sweep, worker.resources, worker.stack)
                elif isinstance(message, EpochMessage):
                    worker.send(report(worker.stack[message.job_index], message.record))
                else:
                    return self._ended(worker, message)

    def close(self) -> None:
        """Stop busy workers, give them time to close their runs, and kill the rest. A second Ctrl-C does not wait."""
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            if not worker.ready:
                worker.process.kill()
            elif worker.stack is not None:
                worker.process.terminate()
            worker.pipe.close()
        try:
            for worker in workers:
                worker.process.join(GRACE_SECONDS)
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()
            self._workers = [None for _ in self._workers]

    def _start(self, index: int) -> Worker:
        ours, theirs = self._mp.Pipe()
        resources = self._resources[index]
        # A trial on several devices starts processes, which a daemon may not.
        process = self._mp.Process(target=work, args=(theirs,), daemon=len(resources.devices) == 1)
        worker = Worker(process=process, pipe=ours, resources=resources)
        with signals_deferred():
            process.start()
            self._workers[index] = worker
        theirs.close()
        return worker

    def _ended(self, worker: Worker, message: Result | InputError | str | None) -> StackResult:
        stack, worker.stack = worker.stack, None
        assert stack is not None
        if isinstance(message, InputError):
            raise message
        if isinstance(message, tuple):
            return StackResult(stack=stack, results=message)
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._workers[self._workers.index(worker)] = None
        return StackResult(stack=stack, lost=f"worker process {worker.process.pid} {how}")


def work(pipe: Connection) -> None:
    """Receive the sweep and the worker's resources, then train stacks until the pipe is closed. Die with the driver."""
    die_with_parent()
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        pipe.send(READY)
        sweep: SweepContext = pipe.recv()
        resources: WorkerResources = pipe.recv()
        resources.runtime.apply()
        worker = WorkerContext.build(sweep, resources)
        while True:
            stack: JobStack = pipe.recv()
            pipe.send(_results(worker, stack, pipe))
    except (*PIPE_BROKEN, UnpicklingError, KeyboardInterrupt):
        return


def _results(worker: WorkerContext, stack: JobStack, pipe: Connection) -> Result | InputError:
    def report(job: Job, record: EpochRecord) -> bool:
        try:
            pipe.send(EpochMessage(stack.index(job), record))
            return bool(pipe.recv())
        except PIPE_BROKEN:
            # The driver is gone, so the trial is interrupted and has not failed.
            raise KeyboardInterrupt from None

    try:
        return run_stack(worker, stack, report)
    except InputError as error:
        return error


def _receive(pipe: Connection) -> EpochMessage | Result | InputError | str | None:
    """Return the next message, or None if the worker is gone."""
    try:
        message: EpochMessage | Result | InputError | str = pipe.recv()
    except (EOFError, OSError):
        # OSError: it died in the middle of a message.
        return None
    return message


def _stop(*_: object) -> None:
    # The terminal and the driver may both send a signal; the second must not break the closing of the run.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
