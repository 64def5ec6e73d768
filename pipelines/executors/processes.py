"""Trials side by side in processes of this machine, each with its share of cores or an accelerator of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pickle import UnpicklingError

import torch

from pipelines.executors.base import Watcher
from pipelines.job import Ended, Finished, Job
from pipelines.trial import run_trial
from pipelines.trial_record import Context
from research.spec import InputError
from research.training.trainer import EpochRecord

GRACE_SECONDS = 20.0
"""How long stopped workers may take to put their runs in order."""
READY = "ready"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
PIPE_BROKEN = (EOFError, BrokenPipeError, ConnectionResetError)


@dataclass(kw_only=True)
class Worker:
    """A process and the driver's end of its pipe."""

    process: SpawnProcess
    pipe: Connection
    context: Context
    job: Job | None = None
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

    def submit(self, job: Job) -> None:
        """Hand the job to an idle worker. One that has to be started first, which takes seconds, gets it when it is there."""
        index = next(i for i, worker in enumerate(self._workers) if worker is None or worker.job is None)
        worker = self._workers[index]
        if worker is None or not worker.process.is_alive():
            worker = self._workers[index] = self._start(self._contexts[index])
        worker.job = job
        if worker.ready:
            worker.send(job)

    def wait(self, watcher: Watcher) -> Ended:
        """The next result, or the next death."""
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker is not None and worker.job is not None}
            assert busy
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                worker = busy[ready]
                assert worker.job is not None
                message = _receive(ready)
                if message == READY:
                    worker.ready = True
                    worker.send(worker.context, worker.job)
                elif isinstance(message, EpochRecord):
                    worker.send(watcher.on_epoch(worker.job, message))
                else:
                    return self._ended(worker, message)

    def close(self) -> None:
        """Ask busy workers to stop, give them time to close their runs, end the rest."""
        there = [worker for worker in self._workers if worker is not None]
        for worker in there:
            if not worker.ready:
                worker.process.kill()
            elif worker.job is not None:
                worker.process.terminate()
            worker.pipe.close()
        for worker in there:
            worker.process.join(GRACE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = [None for _ in self._workers]

    def _start(self, context: Context) -> Worker:
        ours, theirs = self._mp.Pipe()
        process = self._mp.Process(target=work, args=(theirs,), daemon=True)
        # The child inherits the mask: a stop that falls into its imports waits until it can be answered.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return Worker(process=process, pipe=ours, context=context)

    def _ended(self, worker: Worker, message: Finished | InputError | str | None) -> Ended:
        job, worker.job = worker.job, None
        assert job is not None
        if isinstance(message, InputError):
            raise message
        if isinstance(message, Finished):
            return Ended(job=job, finished=message)
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._workers[self._workers.index(worker)] = None
        return Ended(job=job, lost=f"worker process {worker.process.pid} {how}")


def work(pipe: Connection) -> None:
    """A worker's life: take the context, then jobs, from the pipe until it is closed. Dies with its driver."""
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
            job: Job = pipe.recv()
            pipe.send(_outcome(ready, job, pipe))
    except (*PIPE_BROKEN, UnpicklingError, KeyboardInterrupt):
        return


def _outcome(context: Context, job: Job, pipe: Connection) -> Finished | InputError:
    def report(record: EpochRecord) -> bool:
        try:
            pipe.send(record)
            return bool(pipe.recv())
        except PIPE_BROKEN:
            # The driver is gone: the trial has not failed, it is interrupted.
            raise KeyboardInterrupt from None

    try:
        return run_trial(context, job, report)
    except InputError as mistake:
        return InputError(str(mistake))


def _receive(pipe: Connection) -> EpochRecord | Finished | InputError | str | None:
    """The next message; None if the worker is gone."""
    try:
        message: EpochRecord | Finished | InputError | str = pipe.recv()
    except PIPE_BROKEN:
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
