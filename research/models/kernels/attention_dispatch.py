"""Implementations of attention over a dozen tokens, and the choice of the fastest one on this machine.

Shapes: R windows (of all copies), N tokens, H heads, W head width, D = H * W.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from research.models.kernels import native

KernelName = Literal["native", "sdpa", "plain"]
PROBED_WINDOWS = 32
PROBE_RUNS = 5
CLEARLY = 1.15
"""Speed-up at which a kernel later in the list replaces an earlier one; noise must not decide."""

_forced: list[KernelName] = []


def attend(qkv_RN3HW: Tensor, scale: float | None = None) -> Tensor:
    """Return softmax(scale q k') v of each head, [R, N, D], by the fastest kernel; `scale` defaults to 1/sqrt(W)."""
    return KERNELS[kernel_for(qkv_RN3HW)](qkv_RN3HW, scale)


def kernel_for(qkv_RN3HW: Tensor) -> KernelName:
    """Return the kernel that `attend` uses for a projection of this shape, device and type."""
    _, N, _, H, W = qkv_RN3HW.shape
    if _forced:
        return _forced[-1]
    if torch.compiler.is_compiling():
        return "sdpa"
    compiled = native.usable(qkv_RN3HW)
    return fastest(qkv_RN3HW.device.type, str(qkv_RN3HW.dtype).removeprefix("torch."), N, H, W, compiled=compiled)


@contextmanager
def using(name: KernelName) -> Iterator[None]:
    """Use this kernel instead of the fastest one, to compare kernels."""
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


@cache
def fastest(device: str, dtype: str, N: int, H: int, W: int, *, compiled: bool) -> KernelName:
    """Return the fastest kernel for these sizes, from a probe of some milliseconds, once per process.

    `compiled` allows the project's own kernels.
    """
    if device != "cpu":
        # Flash kernels are available there, and a probe of single calls would measure launches.
        return "sdpa"
    # From a generator of its own: a probe must not change any other random numbers.
    numbers = torch.randn(PROBED_WINDOWS, N, 3, H, W, generator=torch.Generator().manual_seed(0))
    qkv = numbers.to(getattr(torch, dtype)).requires_grad_()
    candidates: list[KernelName] = ["sdpa", "plain"]
    if compiled and native.attends(N, W):
        candidates.insert(0, "native")
    chosen, least = candidates[0], float("inf")
    for name in candidates:
        seconds = min(_seconds(KERNELS[name], qkv) for _ in range(PROBE_RUNS))
        if seconds * CLEARLY < least:
            chosen, least = name, seconds
    return chosen


def _seconds(kernel: Callable[[Tensor, float | None], Tensor], qkv: Tensor) -> float:
    # A probe must leave no trace in training: neither a gradient nor a graph.
    with torch.enable_grad():
        began = time.perf_counter()
        torch.autograd.grad(kernel(qkv, None).sum(), qkv)
        return time.perf_counter() - began


def _native(qkv_RN3HW: Tensor, scale: float | None = None) -> Tensor:
    out: Tensor = native.NativeAttention.apply(qkv_RN3HW, scale)  # type: ignore[no-untyped-call]
    return out


def _sdpa(qkv_RN3HW: Tensor, scale: float | None = None) -> Tensor:
    q_RHNW, k_RHNW, v_RHNW = qkv_RN3HW.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q_RHNW, k_RHNW, v_RHNW, scale=scale).transpose(1, 2).flatten(2)


def _plain(qkv_RN3HW: Tensor, scale: float | None = None) -> Tensor:
    q_RHNW, k_RHNW, v_RHNW = qkv_RN3HW.permute(2, 0, 3, 1, 4)
    scale = q_RHNW.shape[-1] ** -0.5 if scale is None else scale
    weights_RHNN = (q_RHNW @ k_RHNW.mT * scale).softmax(dim=-1)
    mixed_RND: Tensor = (weights_RHNN @ v_RHNW).transpose(1, 2).flatten(2)
    return mixed_RND


KERNELS: dict[KernelName, Callable[[Tensor, float | None], Tensor]] = {"native": _native, "sdpa": _sdpa, "plain": _plain}
