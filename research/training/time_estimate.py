"""Training time on this machine, predicted from single blocks that are timed for a fraction of a second.

A forward and backward pass takes a fixed time, in which every weight is read and its gradient written, and a time per
window. Both are fitted to two timings. The time of a deep model is the sum of its blocks' times.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from research.models.accounting import parameter_count
from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec

MOST_PARAMETERS = 36_000_000
"""Largest timed block: weights and gradients stay below 300 MB. A larger block is timed with a part of its d_ff."""
MOST_FLOPS = {"cpu": 10e9, "mps": 200e9, "cuda": 2000e9}
"""Operations of a timed pass: large compared with the fixed costs, yet a fraction of a second."""
MOST_WINDOWS = 64
"""Largest number of windows of a timed pass."""
HEADS_MATTER_BELOW = 384
"""Width above which the number of heads does not affect a block's time."""
UPDATED_PARAMETERS = 8_000_000
"""Parameters of the timed optimizer step: more than caches hold."""
TINY_TENSORS = 200
TENSORS_PER_BLOCK = 12
DROPOUT = 0.1
"""Dropout rate of timed blocks; any rate above zero costs the same."""
FORWARD_SHARE = 1 / 3
"""Share of the forward pass in the time of forward and backward."""
FEWEST_REPEATS, TIMING_SECONDS = 3, 0.03
"""Fewest repetitions and shortest total time of a timing."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds as a linear function of a count."""

    fixed: float
    each: float

    def of(self, count: float) -> float:
        """Return the seconds for this count."""
        return self.fixed + self.each * count


class TimeEstimator:
    """Predicted times on one device. Each distinct part is timed once, at its first use."""

    def __init__(self, device: torch.device):
        self._device = device
        self._costs: dict[object, Cost] = {}

    def trial(
        self,
        a: ArchitectureSpec,
        *,
        batch_size: int,
        micro_batch: int,
        windows: tuple[int, int],
        epochs: int,
        recompute: bool = False,
    ) -> float:
        """Return the seconds of all epochs, each a pass over the training windows and an evaluation."""
        training, validation = windows
        steps = math.ceil(training / batch_size)
        evaluation = FORWARD_SHARE * self._pass(a, validation)
        again = FORWARD_SHARE * self._pass(a, batch_size) if recompute else 0.0
        return epochs * (steps * (self.step(a, batch_size=batch_size, micro_batch=micro_batch) + again) + evaluation)

    def step(self, a: ArchitectureSpec, *, batch_size: int, micro_batch: int) -> float:
        """Return the seconds of one optimizer step: its micro-batches and the update of the weights."""
        whole, rest = divmod(batch_size, micro_batch)
        passes = whole * self._pass(a, micro_batch) + (self._pass(a, rest) if rest else 0.0)
        update = self._once("update", self._time_update)
        return passes + update.fixed * TENSORS_PER_BLOCK * a.n_layers + update.each * parameter_count(a)

    def _pass(self, a: ArchitectureSpec, windows: int) -> float:
        """Return the seconds of a forward and backward pass over all blocks, the embedding and the head."""
        part = timed_part(a)
        scale = _block_parameters(a) / _block_parameters(part)
        block = self._once(part, lambda: self._time_block(part))
        stem = self._once((a.family, a.d_model), lambda: self._time_stem(replace(part, n_heads=1, d_ff=1)))
        return a.n_layers * scale * block.of(windows) + stem.of(windows)

    def _once(self, key: object, measure: Callable[[], Cost]) -> Cost:
        if key not in self._costs:
            self._costs[key] = measure()
        return self._costs[key]

    def _time_block(self, a: ArchitectureSpec) -> Cost:
        model = PatchTransformer(a, DROPOUT).to(self._device)

        def block(x_BND: Tensor) -> Tensor:
            noise_BSND = model.draw_noise(x_BND)
            assert noise_BSND is not None
            out_BND: Tensor = model.blocks[0](x_BND, noise_BSND[..., 1:, :, :])
            return out_BND

        # Within a model a block also computes the gradient of its input.
        shape, flops = (a.n_patches, a.d_model), 6 * a.n_patches * _block_parameters(a)
        return self._time_passes(block, shape, flops, passes_on=True)

    def _time_stem(self, a: ArchitectureSpec) -> Cost:
        """Time embedding, last norm and head: a model without its blocks."""
        model = PatchTransformer(a, DROPOUT)
        model.blocks = nn.ModuleList()
        flops = 6 * a.n_patches * a.patch_length * a.n_features * a.d_model
        # The input is data and needs no gradient.
        shape = (a.context_length, a.n_features)
        return self._time_passes(model.to(self._device), shape, flops, passes_on=False)

    def _time_passes(self, forward: Callable[[Tensor], Tensor], shape: tuple[int, ...], flops: int, *, passes_on: bool) -> Cost:
        """Time forward and backward passes over one window and over many windows of this shape."""
        many = max(2, min(MOST_WINDOWS, int(MOST_FLOPS[self._device.type] / flops)))
        inputs = (torch.randn(n, *shape, device=self._device, requires_grad=passes_on) for n in (1, many))
        one_pass, all_passes = (self._median(partial(_forward_backward, forward, x)) for x in inputs)
        each = max(all_passes - one_pass, 0.0) / (many - 1)
        return Cost(fixed=max(one_pass - each, 0.0), each=each)

    def _time_update(self) -> Cost:
        """Time clipping and AdamW per tensor and per parameter, with many tiny tensors and one large tensor."""
        seconds = []
        for tensors, size in ((TINY_TENSORS, 1), (1, UPDATED_PARAMETERS)):
            parameters = [nn.Parameter(torch.ones(size, device=self._device)) for _ in range(tensors)]
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)
            optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
            seconds.append(self._median(partial(_update, parameters, optimizer)))
        return Cost(fixed=seconds[0] / TINY_TENSORS, each=seconds[1] / UPDATED_PARAMETERS)

    def _median(self, run: Callable[[], None]) -> float:
        """Return the median seconds of a run after a first one that warms up."""
        seconds: list[float] = []
        while len(seconds) <= FEWEST_REPEATS or sum(seconds) < TIMING_SECONDS:
            started = time.perf_counter()
            run()
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            elif self._device.type == "mps":
                torch.mps.synchronize()
            seconds.append(time.perf_counter() - started)
        return median(seconds[1:])


def timed_part(a: ArchitectureSpec) -> ArchitectureSpec:
    """Return the block that is timed for `a`: one head if it is wide, and a part of d_ff if it is large."""
    heads = a.n_heads if a.d_model < HEADS_MATTER_BELOW else 1
    part = replace(a, n_layers=1, n_heads=heads)
    while _block_parameters(part) > MOST_PARAMETERS and part.d_ff > 1:
        part = replace(part, d_ff=part.d_ff // 2)
    return part


def _block_parameters(a: ArchitectureSpec) -> int:
    return parameter_count(replace(a, n_layers=2)) - parameter_count(replace(a, n_layers=1))


def _forward_backward(forward: Callable[[Tensor], Tensor], inputs: Tensor) -> None:
    forward(inputs).sum().backward()  # type: ignore[no-untyped-call]


def _update(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
