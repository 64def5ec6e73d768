"""Ways to compute attention over a dozen tokens, and which is the fastest here.

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
from research.models.kernels.lanes_attention import LanesAttention

KernelName = Literal["native", "sdpa", "lanes", "plain"]
PROBED_WINDOWS = 32
PROBE_RUNS = 5
CLEARLY = 1.15
"""A kernel gives way to one later in the list only if that is faster by this factor: noise must not decide."""

_forced: list[KernelName] = []


def attend(qkv_RN3HW: Tensor, scale: float | None = None) -> Tensor:
    """softmax(scale q k') v of each head, [R, N, D], by the kernel that is fastest here; scale is 1/sqrt(W) if not given."""
    return KERNELS[kernel_for(qkv_RN3HW)](qkv_RN3HW, scale)


def kernel_for(qkv_RN3HW: Tensor) -> KernelName:
    """The kernel that `attend` takes for a projection of this shape, device and type."""
    _, N, _, H, W = qkv_RN3HW.shape
    if _forced:
        return _forced[-1]
    if torch.compiler.is_compiling():
        return "sdpa"
    compiled = native.usable(qkv_RN3HW)
    return fastest(qkv_RN3HW.device.type, str(qkv_RN3HW.dtype).removeprefix("torch."), N, H, W, compiled=compiled)


@contextmanager
def using(name: KernelName) -> Iterator[None]:
    """Take this kernel whatever is fastest, to compare them."""
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


@cache
def fastest(device: str, dtype: str, N: int, H: int, W: int, *, compiled: bool) -> KernelName:
    """The fastest kernel for these sizes by a probe of some milliseconds, once per process.

    `compiled`: our own kernels may be taken.
    """
    if device != "cpu":
        # Flash kernels are there, and a probe of single calls would measure launches.
        return "sdpa"
    # From a generator of its own: whether a probe has run must not show in anybody's random numbers.
    numbers = torch.randn(PROBED_WINDOWS, N, 3, H, W, generator=torch.Generator().manual_seed(0))
    qkv = numbers.to(getattr(torch, dtype)).requires_grad_()
    chosen, least = None, 0.0
    candidates: list[KernelName] = ["sdpa", "lanes", "plain"]
    for name in ["native", *candidates] if compiled and native.attends(N, W) else candidates:
        seconds = min(_seconds(KERNELS[name], qkv) for _ in range(PROBE_RUNS))
        if chosen is None or seconds * CLEARLY < least:
            chosen, least = name, seconds
    assert chosen is not None
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


def _lanes(qkv_RN3HW: Tensor, scale: float | None = None) -> Tensor:
    out: Tensor = LanesAttention.apply(qkv_RN3HW, scale)  # type: ignore[no-untyped-call]
    return out


def _sdpa(qkv_RN3HW: Tensor, scale: float | None = None) -> Tensor:
    q_RHNW, k_RHNW, v_RHNW = qkv_RN3HW.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q_RHNW, k_RHNW, v_RHNW, scale=scale).transpose(1, 2).flatten(2)


def _plain(qkv_RN3HW: Tensor, scale: float | None = None) -> Tensor:
    q_RHNW, k_RHNW, v_RHNW = qkv_RN3HW.permute(2, 0, 3, 1, 4)
    scale = q_RHNW.shape[-1] ** -0.5 if scale is None else scale
    shares_RHNN = (q_RHNW @ k_RHNW.mT * scale).softmax(dim=-1)
    mixed_RND: Tensor = (shares_RHNN @ v_RHNW).transpose(1, 2).flatten(2)
    return mixed_RND


KERNELS: dict[KernelName, Callable[[Tensor, float | None], Tensor]] = {
    "native": _native,
    "sdpa": _sdpa,
    "lanes": _lanes,
    "plain": _plain,
}
