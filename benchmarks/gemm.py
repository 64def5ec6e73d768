"""What one thread of this machine can reach at most: the rate of large matrix products, whichever size is fastest."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.harness import cpu_seconds, one_thread

SIZES = (256, 512, 1024, 1536)
SECONDS_EACH = 0.25
"""Of processor time for each size; the fastest product counts, since nothing makes one faster than it can be."""
TOO_SLOW = 1.0
"""Seconds of one product from which on larger ones are left out: a number format that the processor only emulates."""


@dataclass(frozen=True, kw_only=True)
class GemmPeak:
    """Floating-point operations per second of one thread (multiply-add = 2)."""

    float32: float
    bfloat16: float

    @property
    def title(self) -> str:
        """Both rates as text."""
        return f"{self.float32 / 1e9:.0f} GFLOP/s float32, {self.bfloat16 / 1e9:.0f} GFLOP/s bfloat16"


def gemm_peak() -> GemmPeak:
    """Measure both number formats, in about two seconds."""
    with one_thread():
        return GemmPeak(float32=best_rate(torch.float32), bfloat16=best_rate(torch.bfloat16))


def best_rate(dtype: torch.dtype, sizes: tuple[int, ...] = SIZES, seconds_each: float = SECONDS_EACH) -> float:
    """Operations per second of the fastest square product."""
    rates: list[float] = []
    for size in sizes:
        seconds = _fastest(dtype, size, seconds_each)
        rates.append(2 * size**3 / seconds)
        if seconds > TOO_SLOW:
            break
    return max(rates)


def _fastest(dtype: torch.dtype, size: int, seconds_each: float) -> float:
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    seconds = [cpu_seconds(lambda: torch.mm(a, b, out=out))]
    # The first product also sets up what the later ones reuse.
    while len(seconds) < 3 or sum(seconds) < seconds_each:
        seconds.append(cpu_seconds(lambda: torch.mm(a, b, out=out)))
    return min(seconds)
