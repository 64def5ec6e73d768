"""A training step as one CUDA graph: a narrow model of a dozen tokens is bound by the launches of its kernels.

Shapes: B batch; `...` the copies of a stack.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Step = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows of a batch -> (loss, gradient norm), everything in between on the device and of fixed shape."""
WARM_UP_STEPS = 3
"""Capture needs the libraries' workspaces and the optimizer's state to be there."""


class Recorder(Protocol):
    """Records what is launched, to launch it again."""

    def record(self, work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Run the work and remember it; what it returns is written anew by each replay."""

    def replay(self) -> None:
        """Launch it again."""


class CudaRecorder:
    """`torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def record(self, work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Capture the work."""
        with torch.cuda.graph(self._graph):
            return work()

    def replay(self) -> None:
        """Launch all its kernels at once."""
        self._graph.replay()


class StepGraph:
    """Takes steps of one shape by replay, all others as they are. Where recording fails, no step is replayed.

    `before` is called ahead of each step, recorded or not: what the host draws or sets, random bits and learning rates, must
    lie in memory that the step reads.
    """

    def __init__(self, step: Step, before: Callable[[Tensor], object], recorder: Callable[[], Recorder] = CudaRecorder):
        self._step, self._before, self._recorder = step, before, recorder
        self._rows: Tensor | None = None
        self._recorded: tuple[Recorder, tuple[Tensor, Tensor]] | None = None
        self._taken = 0
        self._failed = False

    def __call__(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        self._before(rows_B)
        if self._rows is None:
            self._rows = rows_B.clone()
        if self._failed or rows_B.shape != self._rows.shape:
            return self._step(rows_B)
        self._taken += 1
        if self._taken <= WARM_UP_STEPS:
            return self._step(rows_B)
        self._rows.copy_(rows_B)
        if self._recorded is None and not self._record():
            return self._step(rows_B)
        assert self._recorded is not None
        recorder, (loss, norm) = self._recorded
        recorder.replay()
        # The next replay writes into the same memory.
        return loss.clone(), norm.clone()

    def _record(self) -> bool:
        rows = self._rows
        assert rows is not None
        try:
            recorder = self._recorder()
            self._recorded = recorder, recorder.record(lambda: self._step(rows))
        except RuntimeError as problem:
            self._failed = True
            warnings.warn(f"steps are launched one kernel at a time: {str(problem).splitlines()[0]}", stacklevel=2)
        return not self._failed
