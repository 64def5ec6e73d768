"""Peak rate of a device in large matrix products, as a reference for the speed of training."""

from __future__ import annotations

import time

import torch

from research.runtime import Precision

SIZES = {"cpu": (512, 1024), "mps": (2048,), "cuda": (4096, 8192)}
SECONDS_EACH = 0.05
FEWEST_PRODUCTS = 3


def gemm_rate(device: torch.device, precision: Precision) -> float:
    """Return floating-point operations per second (multiply-add = 2) of the fastest square product, with torch's threads."""
    return max(_rate(device, getattr(torch, precision), size) for size in SIZES[device.type])


def _rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    # The first product also does set-up work. The fastest one counts: disturbances only slow a product down.
    seconds = [_seconds(device, a, b, out) for _ in range(FEWEST_PRODUCTS)]
    while sum(seconds) < SECONDS_EACH:
        seconds.append(_seconds(device, a, b, out))
    return float(2 * size**3 / min(seconds))


def _seconds(device: torch.device, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> float:
    began = time.perf_counter()
    torch.mm(a, b, out=out)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - began
