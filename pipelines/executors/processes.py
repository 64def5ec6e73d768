"""Trials side by side in processes of this machine, each with its share of cores or an accelerator of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pickle import UnpicklingError
from typing import NamedTuple

import torch

from pipelines.executors.base import Watcher
from pipelines.job import Ended, Finished, Job, Team
from pipelines.trial import run_team
from pipelines.trial_record import Context
from research.spec import InputError
from research.training.member import EpochRecord

GRACE_SECONDS = 20.0
"""How long stopped workers may take to put their runs in order."""
READY = "ready"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
PIPE_BROKEN = (EOFError, BrokenPipeError, ConnectionResetError)
Result = tuple[Finished, ...]


class Told(NamedTuple):
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
    """A fixed number of worker processes, each on its device; one that dies is replaced when it is next needed."""

    def __init__(self, context: Context, devices: Sequence[torch.device]):
        # Each CUDA device has memory of its own; everything else is shared.
        share = context.memory_share / max(sum(device.type != "cuda" for device in devices), 1)
        self._contexts = [
            replace(context.portable(), runtime=replace(context.runtime, device=device), memory_share=share)
            for device in devices
        ]
        self._workers: list[Worker | None] = [None for _ in devices]
        self._mp = multiprocessing.get_context("spawn")

    @property
    def slots(self) -> int:
        """One per device given."""
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

    def wait(self, watcher: Watcher) -> Ended:
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
                elif isinstance(message, Told):
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
        process = self._mp.Process(target=work, args=(theirs,), daemon=True)
        worker = Worker(process=process, pipe=ours, context=self._contexts[index])
        with stops_put_off():
            process.start()
            self._workers[index] = worker
        theirs.close()
        return worker

    def _ended(self, worker: Worker, message: Result | InputError | str | None) -> Ended:
        team, worker.team = worker.team, None
        assert team is not None
        if isinstance(message, InputError):
            raise message
        if isinstance(message, tuple):
            return Ended(team=team, finished=message)
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._workers[self._workers.index(worker)] = None
        return Ended(team=team, lost=f"worker process {worker.process.pid} {how}")


@contextmanager
def stops_put_off() -> Iterator[None]:
    """Let a stop wait until the block has ended; a process started inside lets it wait until it can answer.

    The mask is for the process that is started. It would not do for this one: another thread takes the signal
    then, and Python hands it to the main thread all the same.
    """
    # Its first start would lift the mask.
    resource_tracker.ensure_running()
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in STOP_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for stop in came:
        signal.raise_signal(stop)


def work(pipe: Connection) -> None:
    """A worker's life: take the context, then teams, from the pipe until it is closed. Dies with its driver."""
    _die_with_the_driver()
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
            pipe.send(Told(team.index(job), record))
            return bool(pipe.recv())
        except PIPE_BROKEN:
            # The driver is gone: the trial has not failed, it is interrupted.
            raise KeyboardInterrupt from None

    try:
        return run_team(context, team, report)
    except InputError as mistake:
        return mistake


def _receive(pipe: Connection) -> Told | Result | InputError | str | None:
    """The next message; None if the worker is gone."""
    try:
        message: Told | Result | InputError | str = pipe.recv()
    except (EOFError, OSError):
        # OSError: it died in the middle of a message.
        return None
    return message


def _stop(*_: object) -> None:
    # The terminal and the driver may both send a signal; the second must not break the closing of the run.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _die_with_the_driver() -> None:
    """End at once when the driver is gone, however it went: its next start closes the run and tries it again."""
    driver = multiprocessing.parent_process()
    assert driver is not None

    def watch() -> None:
        wait([driver.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="driver-watch").start()
