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

from pipelines.executors.base import EpochCallback
from pipelines.trial.context import Context, DeviceGroup
from pipelines.trial.job import Job, StackResult, Team, TrialResult
from pipelines.trial.trial import run_team
from research.errors import InputError
from research.processes import PIPE_BROKEN, STOP_SIGNALS, die_with_parent, signals_deferred
from research.training.trial_state import EpochRecord

GRACE_SECONDS = 20.0
"""How long stopped workers may take to put their runs in order."""
READY = "ready"
Result = tuple[TrialResult, ...]


class EpochMessage(NamedTuple):
    """An epoch that a worker tells of."""

    place: int
    """Of its job in the worker's team."""
    record: EpochRecord


@dataclass(kw_only=True)
class Worker:
    """A process and the driver's end of its pipe."""

    process: SpawnProcess
    pipe: Connection
    context: Context
    team: Team | None = None
    ready: bool = False
    """Whether it has said that it is there; before that it has no run to put in order."""

    def send(self, *messages: object) -> None:
        """Send; a worker that has died is found out by `wait`."""
        with suppress(*PIPE_BROKEN):
            for message in messages:
                self.pipe.send(message)


class Processes:
    """A fixed number of worker processes, each on its devices; one that dies is replaced when it is next needed."""

    def __init__(self, context: Context, groups: Sequence[DeviceGroup]):
        # Each CUDA device has memory of its own; everything else is shared.
        share = context.memory_share / max(sum(group[0].type != "cuda" for group in groups), 1)
        self._contexts = [
            replace(context.portable(), runtime=replace(context.runtime, device=group[0]), group=group, memory_share=share)
            for group in groups
        ]
        self._workers: list[Worker | None] = [None for _ in groups]
        self._mp = multiprocessing.get_context("spawn")

    @property
    def slots(self) -> int:
        """One per group of devices given."""
        return len(self._workers)

    def submit(self, team: Team) -> None:
        """Hand the team to an idle worker. One that has to be started first, which takes seconds, gets it when it is there."""
        index = next(i for i, worker in enumerate(self._workers) if worker is None or worker.team is None)
        worker = self._workers[index]
        if worker is None or not worker.process.is_alive():
            worker = self._start(index)
        worker.team = team
        if worker.ready:
            worker.send(team)

    def wait(self, watcher: EpochCallback) -> StackResult:
        """The next result, or the next death."""
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker is not None and worker.team is not None}
            assert busy
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                worker = busy[ready]
                assert worker.team is not None
                message = _receive(ready)
                if message == READY:
                    worker.ready = True
                    worker.send(worker.context, worker.team)
                elif isinstance(message, EpochMessage):
                    worker.send(watcher.on_epoch(worker.team[message.place], message.record))
                else:
                    return self._ended(worker, message)

    def close(self) -> None:
        """Ask busy workers to stop, give them time to close their runs, end the rest. A second stop does not wait."""
        there = [worker for worker in self._workers if worker is not None]
        for worker in there:
            if not worker.ready:
                worker.process.kill()
            elif worker.team is not None:
                worker.process.terminate()
            worker.pipe.close()
        try:
            for worker in there:
                worker.process.join(GRACE_SECONDS)
        finally:
            for worker in there:
                worker.process.kill()
                worker.process.join()
            self._workers = [None for _ in self._workers]

    def _start(self, index: int) -> Worker:
        ours, theirs = self._mp.Pipe()
        context = self._contexts[index]
        # A daemon may start no processes, as a trial on several devices does.
        process = self._mp.Process(target=work, args=(theirs,), daemon=len(context.group) == 1)
        worker = Worker(process=process, pipe=ours, context=context)
        with signals_deferred():
            process.start()
            self._workers[index] = worker
        theirs.close()
        return worker

    def _ended(self, worker: Worker, message: Result | InputError | str | None) -> StackResult:
        team, worker.team = worker.team, None
        assert team is not None
        if isinstance(message, InputError):
            raise message
        if isinstance(message, tuple):
            return StackResult(team=team, finished=message)
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._workers[self._workers.index(worker)] = None
        return StackResult(team=team, lost=f"worker process {worker.process.pid} {how}")


def work(pipe: Connection) -> None:
    """A worker's life: take the context, then teams, from the pipe until it is closed. Dies with its driver."""
    die_with_parent()
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        pipe.send(READY)
        context: Context = pipe.recv()
        context.runtime.apply()
        ready = context.on_device()
        while True:
            team: Team = pipe.recv()
            pipe.send(_outcome(ready, team, pipe))
    except (*PIPE_BROKEN, UnpicklingError, KeyboardInterrupt):
        return


def _outcome(context: Context, team: Team, pipe: Connection) -> Result | InputError:
    def report(job: Job, record: EpochRecord) -> bool:
        try:
            pipe.send(EpochMessage(team.index(job), record))
            return bool(pipe.recv())
        except PIPE_BROKEN:
            # The driver is gone: the trial has not failed, it is interrupted.
            raise KeyboardInterrupt from None

    try:
        return run_team(context, team, report)
    except InputError as mistake:
        return mistake


def _receive(pipe: Connection) -> EpochMessage | Result | InputError | str | None:
    """The next message; None if the worker is gone."""
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
