"""Training by one process per device, led by the calling process.

The first process of the group sends its progress, and the leader calls the listener. After each epoch the processes wait for
the leader's message to continue; a closed pipe stops them. The end of one process ends them all.
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
"""How long to collect errors after the first failure, in seconds: one crash makes the other ranks fail too, and only the
root cause should be reported."""
GRACE_SECONDS = 5.0
"""How long the first process may finish writing its checkpoint when it is stopped, in seconds."""


class DeviceProcessError(RuntimeError):
    """A process of the group has died, or has failed for a reason other than memory."""


class Rank(NamedTuple):
    """A process of the group and the leader's end of its pipe."""

    process: SpawnProcess
    pipe: Connection
    title: str


def train_across_devices(
    shared: SharedTraining, listener: Listener, on_built: Callable[[AppliedSettings], None] = lambda _: None
) -> TrainingResult:
    """Train on all devices and return the result, as `Trainer.run` does with the same listener and checkpoint.

    `on_built` receives the applied settings before the first step. Raises any error of `on_built` or the listener,
    `DivergedError`, `torch.OutOfMemoryError` if a device ran out of memory, and `DeviceProcessError` for any other
    failure of a process.
    """
    with _started_processes(shared) as ranks:
        return _receive_result(ranks, listener, on_built)


@contextmanager
def _started_processes(shared: SharedTraining) -> Iterator[list[Rank]]:
    """Start one process per device and end them all when the block ends."""
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
            # After all have started, since sending waits for the reader: the processes import their libraries in parallel.
            _send_to_all(ranks, shared)
            yield ranks
        finally:
            _stop(ranks)
            if shared.checkpoint:
                staging_of(shared.checkpoint).unlink(missing_ok=True)


def _stop(ranks: Sequence[Rank]) -> None:
    """Close the pipes, which the first process notices at its next message, and kill the processes that remain."""
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


def _receive_result(ranks: list[Rank], listener: Listener, on_built: Callable[[AppliedSettings], None]) -> TrainingResult:
    """Handle the messages of the processes until the first one sends the result."""
    weights: dict[str, torch.Tensor] = {}
    open_pipes = {rank.pipe: rank for rank in ranks}
    while True:
        for pipe in wait(list(open_pipes)):
            assert isinstance(pipe, Connection)
            message = _next_message(pipe)
            match message:
                case AppliedSettings():
                    on_built(message)
                    _send_to_all(ranks, GO_ON)
                case EpochRecord():
                    listener.on_epoch(message)
                    _send_to_all(ranks, GO_ON)
                case int():
                    listener.on_step(message)
                case Weight():
                    weights[message.name] = torch.from_numpy(message.values)
                case TrainingResult():
                    return replace(message, weights=weights)
                case DivergedError():
                    raise message
                case str() if message == OVER:
                    del open_pipes[pipe]
                case _:
                    raise cause_of_failure(open_pipes, pipe, message)


def _send_to_all(ranks: Sequence[Rank], message: object) -> None:
    for rank in ranks:
        # A dead process is noticed when its pipe is read.
        with suppress(*PIPE_BROKEN):
            rank.pipe.send(message)


def _next_message(pipe: Connection) -> object:
    """Return the next message; None if the process is gone."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def cause_of_failure(ranks: Mapping[Connection, Rank], pipe: Connection, first: object) -> Exception:
    """Return the root cause: out of memory first, then a rank that died silently, then the first failure. Kills all ranks."""
    messages = {pipe: first}
    deadline = time.monotonic() + SETTLE_SECONDS
    while (waiting := [pipe for pipe in ranks if pipe not in messages]) and (left := deadline - time.monotonic()) > 0:
        for ready in wait(waiting, left):
            assert isinstance(ready, Connection)
            message = _next_message(ready)
            if message in (None, OVER) or isinstance(message, WorkerFailure):
                messages[ready] = message
    codes: dict[str, int] = {}
    for rank in (ranks[pipe] for pipe, message in messages.items() if message is None):
        rank.process.join(SETTLE_SECONDS)
        codes[rank.title] = rank.process.exitcode or 0
    for rank in ranks.values():
        rank.process.kill()
    failures = [(ranks[pipe].title, message) for pipe, message in messages.items() if isinstance(message, WorkerFailure)]
    for title, failure in failures:
        if failure.of_memory:
            return torch.OutOfMemoryError(f"{title}: {failure.sentence}")
    for title, code in codes.items():
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return DeviceProcessError(f"{title} {how}")
    title, failure = failures[0]
    return DeviceProcessError(f"{title}: {failure.sentence}")
