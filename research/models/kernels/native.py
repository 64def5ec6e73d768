"""Fused CPU kernels (kernels.cpp), compiled at first use; without a compiler PyTorch computes the same.

Shapes: R windows (of all copies), N tokens, H heads, W head width, D = H * W.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("kernels.cpp")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
COMPILE_SECONDS = 120
OFF = "TAPESCALE_NATIVE"
"""Environment variable; 0 selects PyTorch's own kernels."""
MOST_TOKENS, MOST_WIDTH = 64, 128
"""Largest sizes that the attention kernel holds in registers and on its stack, as in kernels.cpp."""

_switched_off: list[bool] = []


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels; None if they are switched off or cannot be built."""
    if os.environ.get(OFF) == "0":
        return None
    try:
        path = _cached()
        if not path.exists() and not _compile(path):
            return None
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def usable(x: Tensor) -> bool:
    """Return whether the kernels support this tensor."""
    if _switched_off or torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32 and library() is not None


@contextmanager
def switched_off() -> Iterator[None]:
    """Use PyTorch's own kernels inside the block, for comparisons."""
    _switched_off.append(True)
    try:
        yield
    finally:
        _switched_off.pop()


def attends(n_tokens: int, head_width: int) -> bool:
    """Return whether the attention kernel supports these sizes."""
    return n_tokens <= MOST_TOKENS and head_width <= MOST_WIDTH


class NativeAttention(torch.autograd.Function):
    """softmax(scale q k') v, [R, N, D], of the fused projection qkv [R, N, 3, H, W]; backward recomputes the softmax."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, scale: float | None) -> Tensor:
        """Mix the values of each head."""
        qkv = qkv.contiguous()
        ctx.save_for_backward(qkv)
        R, N, _, H, W = qkv.shape
        ctx.scale = W**-0.5 if scale is None else scale
        out = qkv.new_empty(R, N, H * W)
        _call("attention_forward", qkv, out, R, N, H, W, ctx.scale)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of q, k and v in the layout of the projection."""
        (qkv,) = ctx.saved_tensors
        R, N, _, H, W = qkv.shape
        out = torch.empty_like(qkv)
        _call("attention_backward", qkv, gradient.contiguous(), out, R, N, H, W, ctx.scale)
        return out, None


class NativeGelu(torch.autograd.Function):
    """GELU: x Phi(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Apply to each element."""
        x = x.contiguous()
        ctx.save_for_backward(x)
        return _gelu(x, None)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient times Phi(x) + x phi(x)."""
        return _gelu(ctx.saved_tensors[0], gradient.contiguous())


def dropped_sum(base: Tensor | None, x: Tensor, noise: Tensor, thresholds: Tensor, scales: Tensor) -> Tensor:
    """Return base + the numbers of x whose noise reaches the threshold of their copy, scaled; without gradient.

    `noise` [*copies, B, N, D] may be a slice of a larger tensor with evenly spaced windows.
    """
    x = x.contiguous()
    out = torch.empty_like(x)
    windows = x.shape[:-2].numel()
    width = x.shape[-2] * x.shape[-1]
    assert noise.stride(-1) == 1
    assert noise.stride(-2) == x.shape[-1]
    per_copy = windows // len(thresholds)
    under = base.contiguous() if base is not None else None
    _call("dropped_sum", under, x, noise, out, windows, width, noise.stride(-3), thresholds, scales, per_copy)
    return out


def square_sum(tensors: Sequence[Tensor]) -> float:
    """Return the sum of squares of all numbers of contiguous tensors."""
    kernels = library()
    assert kernels is not None
    kernels.square_sum.restype = ctypes.c_double
    total: float = _call("square_sum", addresses(tensors), _sizes(tensors), len(tensors))
    return total


def adamw(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Tensor,
    squares: Tensor,
    *,
    clip: float,
    kept: float,
    first: float,
    second: float,
    size: float,
    root: float,
    epsilon: float,
) -> None:
    """Update weights by AdamW, in place.

    All tensors are contiguous, the moments are given by their addresses; the numbers are documented in kernels.cpp.
    """
    arrays = (addresses(weights), addresses(gradients), means, squares, _sizes(weights))
    _call("adamw", *arrays, len(weights), clip, float(kept), first, second, size, root, epsilon)


def addresses(tensors: Sequence[Tensor]) -> Tensor:
    """Return the address of each tensor's data, for kernels that take many tensors at once."""
    return torch.tensor([tensor.data_ptr() for tensor in tensors])


def _sizes(tensors: Sequence[Tensor]) -> Tensor:
    return torch.tensor([tensor.numel() for tensor in tensors])


def _gelu(x: Tensor, gradient: Tensor | None) -> Tensor:
    out = torch.empty_like(x)
    _call("gelu_all", x, gradient, out, x.numel())
    return out


def _call(name: str, *arguments: Tensor | int | float | None) -> Any:
    """Call a kernel with torch's number of threads; floats become C floats, integers C longs."""
    kernels = library()
    assert kernels is not None
    return getattr(kernels, name)(*map(_as_c, arguments), torch.get_num_threads())


def _as_c(value: Tensor | float | None) -> Any:
    if value is None:
        return ctypes.c_void_p()
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_long(value) if isinstance(value, int) else ctypes.c_float(value)


def _cached() -> Path:
    """Return the user's cache file for this source, these flags and this kind of processor."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # -march=native depends on the processor's instruction sets, and machines may share a cache.
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
    processor = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0] if lines else "")
    about = (SOURCE.read_bytes(), " ".join(FLAGS).encode(), platform.machine().encode(), processor.encode())
    return home / "tapescale" / f"kernels-{hashlib.sha256(b'|'.join(about)).hexdigest()[:16]}.so"


def _compile(path: Path) -> bool:
    """Build under a temporary name and rename, since several processes may start at once; return whether it succeeded."""
    compilers = [compiler for name in COMPILERS if (compiler := shutil.which(name))]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        # Apple's clang has no OpenMP: one thread then.
        for compiler, extra in product(compilers, (("-fopenmp",), ())):
            command = [compiler, *FLAGS, *extra, str(SOURCE), "-o", str(built)]
            with suppress(subprocess.SubprocessError, OSError):
                subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_SECONDS)
                os.replace(built, path)
                return True
    return False
