"""A process of a training shared by several devices, and the messages between it and its leader."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from research.processes import PIPE_BROKEN, STOP_SIGNALS, die_with_parent, exit_now
from research.runtime import Runtime, is_out_of_memory
from research.spec import ArchitectureSpec, TrainingSpec
from research.task.splits import Split
from research.task.windows import WindowDataset
from research.training.applied_settings import applied_settings, parameters_of
from research.training.distributed.fsdp import devices_together
from research.training.distributed.trainer import ShardedTrainer
from research.training.trainer import TrainingResult, build_model
from research.training.trial_state import EpochRecord

STEP_SECONDS = 1.0
"""Seconds between two messages about the current step."""
GO_ON = "go on"
"""Message of the leader after the applied settings and after each epoch."""
OVER = "over"
"""Last message of a process without a result to send."""


@dataclass(frozen=True, kw_only=True)
class SharedTraining:
    """A training shared by several devices, sent to the process of each."""

    architecture: ArchitectureSpec
    training: TrainingSpec
    windows: Callable[[torch.device], WindowDataset]
    """Function that builds the data on a device."""
    split: Split
    runtime: Runtime
    """Runtime of each process, except for its device."""
    devices: tuple[torch.device, ...]
    checkpoint: Path | None = None


class AppliedSettings(NamedTuple):
    """Parameter count and settings of the trainer that the first process has built."""

    parameters: int
    settings: dict[str, Any]


class Weight(NamedTuple):
    """A weight of the best epoch."""

    name: str
    values: NDArray[Any]


class WorkerFailure(NamedTuple):
    """Reason why a process ends before the training does."""

    sentence: str
    of_memory: bool


class _LeaderListener:
    """Listener in a process of the group; the first process sends the events to the leader."""

    def __init__(self, pipe: Connection, *, sends: bool):
        self._pipe, self._sends = pipe, sends
        self._next_message = 0.0

    def on_step(self, step: int) -> None:
        """Send the step number, at most once per `STEP_SECONDS`."""
        if self._sends and time.monotonic() >= self._next_message:
            self._pipe.send(step)
            self._next_message = time.monotonic() + STEP_SECONDS

    def on_epoch(self, record: EpochRecord) -> None:
        """Send the record and wait for the message to continue."""
        self.send(record)

    def send(self, message: object) -> None:
        """Send a message, from the first process only, and wait in every process for the message to continue."""
        if self._sends:
            self._pipe.send(message)
        self._pipe.recv()


def work(rank: int, meeting: Path, pipe: Connection) -> NoReturn:
    """Run a process of the group to its end. Only the leader handles the terminal's signals; it then closes the pipe."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    try:
        _train(rank, pipe.recv(), meeting, pipe)
    except (*PIPE_BROKEN, UnpicklingError):
        pass
    except Exception as error:
        sentence = (f"{type(error).__name__}: {error}".splitlines() or [""])[0]
        with suppress(*PIPE_BROKEN):
            pipe.send(WorkerFailure(sentence, is_out_of_memory(error)))
    exit_now()


def _train(rank: int, shared: SharedTraining, meeting: Path, pipe: Connection) -> None:
    device = shared.devices[rank]
    runtime = replace(shared.runtime, device=device)
    runtime.apply()
    listener = _LeaderListener(pipe, sends=rank == 0)
    with devices_together(device, rank, len(shared.devices), meeting) as mesh:
        # On the CPU: the whole model may not fit on a device.
        model = build_model(shared.architecture, shared.training, torch.device("cpu"))
        trainer = ShardedTrainer(model, shared.windows(device), shared.split, shared.training, runtime, mesh)
        listener.send(AppliedSettings(parameters_of(model), applied_settings(trainer)))
        (end,) = trainer.run_all([listener], [shared.checkpoint])
        if isinstance(end, TrainingResult) and rank == 0:
            # One weight at a time: a message with all of them would hold the whole model in memory twice more.
            for name in list(end.weights):
                pipe.send(Weight(name, np.asarray(end.weights.pop(name))))
        pipe.send(end if rank == 0 else OVER)
