"""Dropout from sixteen random bits per number, drawn at once for a whole forward pass.

The bits of a pass are in one buffer, by window and site. Each site reads its part in forward and again in backward:
- no mask is kept, and a checkpointed block gets the same bits when it is recomputed;
- a micro-batch gets the bits that its windows have in the whole batch (on the CPU, whose generator is a sequence);
- a copy in a stack gets the bits that it has alone.

Shapes: K copies (written `...` where a single model has no such axis), B batch, S sites, N tokens, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from research.models.kernels import native

LEVELS = 2**16
"""Resolution of a rate, 1/65536. Kept numbers are scaled by the rounded rate, so that the mean is exact."""


class Dropout(nn.Module):
    """Adds a branch to the stream and drops each of its numbers at the rate of its copy. Shared by all sites of a model."""

    thresholds: Tensor
    """[K or 1] int16, the smallest bits with which a number is kept."""
    scales: Tensor
    """[K or 1] factor of a kept number."""

    def __init__(self, rates: Sequence[float]):
        super().__init__()
        self.register_buffer("thresholds", torch.empty(0, dtype=torch.int16), persistent=False)
        self.register_buffer("scales", torch.empty(0), persistent=False)
        self._masks = torch.empty(0)
        self.set(rates)

    def set(self, rates: Sequence[float]) -> None:
        """Use these rates, one per copy."""
        self.rates = tuple(rates)
        dropped = [round(rate * LEVELS) for rate in rates]
        lowest = [min(count, LEVELS - 1) - LEVELS // 2 for count in dropped]
        self.thresholds = torch.tensor(lowest, dtype=torch.int16, device=self.thresholds.device)
        scales = [LEVELS / (LEVELS - min(count, LEVELS - 1)) for count in dropped]
        self.scales = torch.tensor(scales, dtype=torch.float32, device=self.scales.device)

    @property
    def acts(self) -> bool:
        """Whether any copy drops anything."""
        return any(self.rates)

    def masks(self, noise: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the factors of the branches of all sites, for devices without a kernel that reads the bits.

        Valid until the next call: allocating memory of this size for each pass would take seven times as long as filling it.
        """
        per_copy = (-1, *(1,) * 4) if noise.ndim == 5 else (-1, *(1,) * 3)
        if self._masks.shape != noise.shape or self._masks.dtype != dtype:
            self._masks = torch.empty(noise.shape, dtype=dtype, device=noise.device)
        with torch.no_grad():
            torch.ge(noise, self.thresholds.view(per_copy), out=self._masks)
            return self._masks.mul_(self.scales.view(per_copy))

    def forward(self, base: Tensor | None, x: Tensor, noise: Tensor | None, site: int) -> Tensor:
        """Return base + dropped x, or dropped x alone; `noise` [..., B, S, N, D] has the bits or masks of all sites."""
        if noise is None:
            return x if base is None else base + x
        part = noise.select(-3, site)
        if part.is_floating_point():
            return x * part if base is None else torch.addcmul(base, x, part)
        out: Tensor = _DroppedSum.apply(base, x, part, self.thresholds, self.scales)  # type: ignore[no-untyped-call]
        return out


class _DroppedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor | None, x: Tensor, noise: Tensor, thresholds: Tensor, scales: Tensor) -> Tensor:
        ctx.save_for_backward(noise, thresholds, scales)
        return _dropped_sum(base, x, noise, thresholds, scales)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept = _dropped_sum(None, gradient, *ctx.saved_tensors)
        return (gradient if ctx.needs_input_grad[0] else None), kept, None, None, None


def _dropped_sum(base: Tensor | None, x: Tensor, noise: Tensor, thresholds: Tensor, scales: Tensor) -> Tensor:
    if native.usable(x):
        return native.dropped_sum(base, x, noise, thresholds, scales)
    per_copy = (-1, *(1,) * (x.ndim - 1))
    kept = x * (noise >= thresholds.view(per_copy)) * scales.view(per_copy).to(x.dtype)
    return kept if base is None else base + kept


class Noise:
    """Random bits of a model's forward passes, in a buffer that each pass refills."""

    def __init__(self, *, sites: int, n_tokens: int, width: int):
        self._shape = (sites, n_tokens, width)
        # Whole 64-bit draws per window, so that a window's bits do not depend on how many windows are drawn at once.
        self._per_window = math.ceil(sites * n_tokens * width / 4) * 4
        self._buffer = torch.empty(0, dtype=torch.int16)
        self.generators: list[torch.Generator | None] = [None]
        """Generators, one per copy; None is torch's default one."""
        self.filled_ahead = False
        """Whether the caller fills the buffer before each pass, as a replayed graph needs; `draw` then only reads."""

    def fill(self, windows: int, device: torch.device) -> Tensor:
        """Draw new bits for a pass over this number of windows per copy."""
        wanted = len(self.generators) * windows * self._per_window
        if len(self._buffer) < wanted or self._buffer.device != device:
            self._buffer = torch.empty(wanted, dtype=torch.int16, device=device)
        bits = self._buffer[:wanted].view(len(self.generators), windows * self._per_window)
        for copy, generator in enumerate(self.generators):
            _fill(bits[copy], generator)
        return bits

    def draw(self, windows: int, device: torch.device, *, stacked: bool) -> Tensor:
        """Return bits [..., B, S, N, D], valid until the next draw."""
        copies = len(self.generators)
        bits = self._buffer[: copies * windows * self._per_window] if self.filled_ahead else self.fill(windows, device)
        used = self._shape[0] * self._shape[1] * self._shape[2]
        noise: Tensor = bits.view(copies, windows, self._per_window)[..., :used].unflatten(-1, self._shape)  # type: ignore[no-untyped-call]
        return noise if stacked else noise[0]


def _fill(bits: Tensor, generator: torch.Generator | None) -> None:
    """Fill with uniform sixteen-bit numbers."""
    if bits.device.type == "cpu":
        # Four numbers from one draw: five times faster than one draw each.
        bits.view(torch.int64).random_(-(2**63), None, generator=generator)
    else:
        bits.random_(-LEVELS // 2, LEVELS // 2, generator=generator)
