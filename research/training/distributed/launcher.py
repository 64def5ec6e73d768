"""One training by a process per device, led by the process that asked for it.

The first process of the group tells how training goes; the leader passes that on to the listener, and each epoch ends with its
word that training goes on. A closed pipe means that it does not. Whatever ends one process ends them all.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple

import torch

from research.processes import PIPE_BROKEN, signals_deferred
from research.training.checkpoint import staging_of
from research.training.distributed.worker import GO_ON, OVER, AppliedSettings, SharedTraining, Weight, WorkerFailure, work
from research.training.trainer import Listener, TrainingResult
from research.training.trial_state import DivergedError, EpochRecord

SETTLE_SECONDS = 3.0
"""When one process fails those that wait for it fail too; so long their reasons are awaited, to tell which came first."""
GRACE_SECONDS = 5.0
"""For the first process to end the writing of its checkpoint when it is stopped."""


class DeviceProcessError(RuntimeError):
    """A process of the group has died, or has failed for another reason than memory."""


class Rank(NamedTuple):
    """A process and the leader's end of its pipe."""

    process: SpawnProcess
    pipe: Connection
    title: str


def train_across_devices(
    shared: SharedTraining, listener: Listener, on_built: Callable[[AppliedSettings], None] = lambda _: None
) -> TrainingResult:
    """What `Trainer.run` gives, with the same listener and checkpoint, from all the devices; no model is restored.

    `on_built` is told what is in use before the first step. Raises what it or the listener raises, `DivergedError`,
    `torch.OutOfMemoryError` where a device ran out of memory, `DeviceProcessError` for every other end of a process.
    """
    with _group(shared) as ranks:
        return _followed(ranks, listener, on_built)


@contextmanager
def _group(shared: SharedTraining) -> Iterator[list[Rank]]:
    """The processes, started; none outlives the block."""
    mp = multiprocessing.get_context("spawn")
    ranks: list[Rank] = []
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder, "meeting")
        try:
            for rank, device in enumerate(shared.devices):
                ours, theirs = mp.Pipe()
                process = mp.Process(target=work, args=(rank, meeting, theirs), daemon=True)
                ranks.append(Rank(process, ours, f"process {rank + 1} of {len(shared.devices)} on {device}"))
                with signals_deferred():
                    process.start()
                theirs.close()
            # Not with the start, which waits until the data are read: the processes load their libraries at the same time.
            _tell_all(ranks, shared)
            yield ranks
        finally:
            _stop(ranks)
            if shared.checkpoint:
                staging_of(shared.checkpoint).unlink(missing_ok=True)


def _stop(ranks: Sequence[Rank]) -> None:
    """Close the pipes, which the first process notices at its next word, and end those that do not leave by themselves."""
    for rank in ranks:
        rank.pipe.close()
    started = [rank.process for rank in ranks if rank.process.pid is not None]
    try:
        for process in started[:1]:
            process.join(GRACE_SECONDS)
    finally:
        for process in started:
            process.kill()
            process.join()


def _followed(ranks: list[Rank], listener: Listener, on_built: Callable[[AppliedSettings], None]) -> TrainingResult:
    """Listen until the first process has told the result."""
    weights: dict[str, torch.Tensor] = {}
    there = {rank.pipe: rank for rank in ranks}
    while True:
        for pipe in wait(list(there)):
            assert isinstance(pipe, Connection)
            message = _received(pipe)
            match message:
                case AppliedSettings():
                    on_built(message)
                    _tell_all(ranks, GO_ON)
                case EpochRecord():
                    listener.on_epoch(message)
                    _tell_all(ranks, GO_ON)
                case int():
                    listener.on_step(message)
                case Weight():
                    weights[message.name] = torch.from_numpy(message.values)
                case TrainingResult():
                    return replace(message, weights=weights)
                case DivergedError():
                    raise message
                case str() if message == OVER:
                    del there[pipe]
                case _:
                    raise cause_of_failure(there, pipe, message)


def _tell_all(ranks: Sequence[Rank], message: object) -> None:
    for rank in ranks:
        # One that has died is found out when its pipe is read.
        with suppress(*PIPE_BROKEN):
            rank.pipe.send(message)


def _received(pipe: Connection) -> object:
    """The next message; None if the process is gone."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def cause_of_failure(there: Mapping[Connection, Rank], pipe: Connection, first: object) -> Exception:
    """The error to raise: lack of memory, else a death without a word, else what was heard first. Ends all processes."""
    said = {pipe: first}
    deadline = time.monotonic() + SETTLE_SECONDS
    while (waiting := [one for one in there if one not in said]) and (left := deadline - time.monotonic()) > 0:
        for one in wait(waiting, left):
            assert isinstance(one, Connection)
            message = _received(one)
            if message in (None, OVER) or isinstance(message, WorkerFailure):
                said[one] = message
    died = [there[one] for one, message in said.items() if message is None]
    codes = {rank.title: _exit_code(rank) for rank in died}
    for rank in there.values():
        rank.process.kill()
    failures = [(there[one].title, message) for one, message in said.items() if isinstance(message, WorkerFailure)]
    for title, failure in failures:
        if failure.of_memory:
            return torch.OutOfMemoryError(f"{title}: {failure.sentence}")
    for title, code in codes.items():
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return DeviceProcessError(f"{title} {how}")
    title, failure = failures[0]
    return DeviceProcessError(f"{title}: {failure.sentence}")


def _exit_code(rank: Rank) -> int:
    rank.process.join(SETTLE_SECONDS)
    return rank.process.exitcode or 0
