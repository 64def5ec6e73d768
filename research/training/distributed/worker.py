"""A process of a training that several devices share: what it is sent, what it says, what it does."""

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
"""Between two words of the step that training is at."""
GO_ON = "go on"
"""The leader's word after what was built and after each epoch."""
OVER = "over"
"""Last word of a process that has no result to tell."""


@dataclass(frozen=True, kw_only=True)
class SharedTraining:
    """A training that several devices share; it is sent to a process of each."""

    architecture: ArchitectureSpec
    training: TrainingSpec
    windows: Callable[[torch.device], WindowDataset]
    """Makes the data on a device."""
    split: Split
    runtime: Runtime
    """Of each process, but for its device."""
    devices: tuple[torch.device, ...]
    checkpoint: Path | None = None


class AppliedSettings(NamedTuple):
    """What the first process has built."""

    parameters: int
    settings: dict[str, Any]


class Weight(NamedTuple):
    """One of the best epoch's weights."""

    name: str
    values: NDArray[Any]


class WorkerFailure(NamedTuple):
    """Why a process ends before training does."""

    sentence: str
    of_memory: bool


class _Telling:
    """The listener within a process of the group."""

    def __init__(self, pipe: Connection, *, tells: bool):
        self._pipe, self._tells = pipe, tells
        self._next_word = 0.0

    def on_step(self, step: int) -> None:
        """Say now and then how far training is."""
        if self._tells and time.monotonic() >= self._next_word:
            self._pipe.send(step)
            self._next_word = time.monotonic() + STEP_SECONDS

    def on_epoch(self, record: EpochRecord) -> None:
        """Tell of it and wait for the word to go on."""
        self.tell(record)

    def tell(self, message: object) -> None:
        """Send it, from the first process, and wait for the word to go on, in all of them."""
        if self._tells:
            self._pipe.send(message)
        self._pipe.recv()


def work(rank: int, meeting: Path, pipe: Connection) -> NoReturn:
    """A process of the group, to its end. What the terminal sends is for the leader, who closes the pipe."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    try:
        _train(rank, pipe.recv(), meeting, pipe)
    except (*PIPE_BROKEN, UnpicklingError):
        pass
    except Exception as problem:
        sentence = (f"{type(problem).__name__}: {problem}".splitlines() or [""])[0]
        with suppress(*PIPE_BROKEN):
            pipe.send(WorkerFailure(sentence, is_out_of_memory(problem)))
    exit_now()


def _train(rank: int, shared: SharedTraining, meeting: Path, pipe: Connection) -> None:
    device = shared.devices[rank]
    runtime = replace(shared.runtime, device=device)
    runtime.apply()
    telling = _Telling(pipe, tells=rank == 0)
    with devices_together(device, rank, len(shared.devices), meeting) as mesh:
        # On the CPU: no device need hold the whole model.
        model = build_model(shared.architecture, shared.training, torch.device("cpu"))
        trainer = ShardedTrainer(model, shared.windows(device), shared.split, shared.training, runtime, mesh)
        telling.tell(AppliedSettings(parameters_of(model), applied_settings(trainer)))
        (outcome,) = trainer.run_all([telling], [shared.checkpoint])
        if rank == 0:
            _tell_result(outcome, pipe)
        else:
            pipe.send(OVER)


def _tell_result(outcome: object, pipe: Connection) -> None:
    """Send it weight by weight: the whole model's would lie there twice more."""
    if isinstance(outcome, TrainingResult):
        for name in list(outcome.weights):
            pipe.send(Weight(name, np.asarray(outcome.weights.pop(name))))
    pipe.send(outcome)
