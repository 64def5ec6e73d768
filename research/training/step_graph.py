"""A training step as one CUDA graph, since kernel launches dominate the time of a narrow model with a dozen tokens.

Shapes: B batch; `...` the copies of a stack.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Step = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Function from a batch's rows to (loss, gradient norm), computed on the device with fixed shapes."""
WARM_UP_STEPS = 3
"""Steps before capture, which create the libraries' workspaces and the optimizer's state."""


class Recorder(Protocol):
    """Records kernel launches and replays them."""

    def record(self, work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Run and record the work; each replay overwrites the returned tensors."""

    def replay(self) -> None:
        """Launch the recorded work again."""


class CudaRecorder:
    """Recorder based on `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def record(self, work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Capture the work."""
        with torch.cuda.graph(self._graph):
            return work()

    def replay(self) -> None:
        """Launch all recorded kernels at once."""
        self._graph.replay()


class StepGraph:
    """Replays steps of one shape and computes all others directly. If recording fails, no step is replayed.

    `before` is called ahead of each step, replayed or not. The values that the host sets, random bits and learning rates,
    must be in memory that the step reads.
    """

    def __init__(self, step: Step, before: Callable[[Tensor], object], recorder: Callable[[], Recorder] = CudaRecorder):
        self._step, self._before, self._recorder = step, before, recorder
        self._rows: Tensor | None = None
        self._recorded: tuple[Recorder, tuple[Tensor, Tensor]] | None = None
        self._steps = 0
        self._failed = False

    def __call__(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """Take a step."""
        self._before(rows_B)
        if self._rows is None:
            self._rows = rows_B.clone()
        if self._failed or rows_B.shape != self._rows.shape:
            return self._step(rows_B)
        self._steps += 1
        if self._steps <= WARM_UP_STEPS:
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
        except RuntimeError as error:
            self._failed = True
            warnings.warn(f"steps are launched one kernel at a time: {str(error).splitlines()[0]}", stacklevel=2)
        return not self._failed
