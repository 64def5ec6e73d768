"""Fused CPU kernels (kernels.cpp), compiled at first use; where there is no compiler the PyTorch paths do the same.

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
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("kernels.cpp")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
COMPILE_SECONDS = 120
OFF = "TAPESCALE_NATIVE"
"""Environment variable; 0 keeps to PyTorch's own kernels."""
MOST_TOKENS, MOST_WIDTH = 64, 128
"""What the attention kernel holds in registers and on its stack, as in kernels.cpp."""

_switched_off: list[bool] = []


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they are switched off or cannot be built."""
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
    """Whether the kernels take this tensor."""
    if _switched_off or torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32 and library() is not None


@contextmanager
def switched_off() -> Iterator[None]:
    """Keep to PyTorch's own kernels inside the block, to compare with them."""
    _switched_off.append(True)
    try:
        yield
    finally:
        _switched_off.pop()


def attends(n_tokens: int, head_width: int) -> bool:
    """Whether the attention kernel takes these sizes."""
    return n_tokens <= MOST_TOKENS and head_width <= MOST_WIDTH


class NativeAttention(torch.autograd.Function):
    """softmax(scale q k') v from the fused projection qkv [R, N, 3, H, W]; [R, N, D]. Shares are computed twice, not kept."""

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
        """The gradient of all three parts, in the layout that the projection's own gradient needs."""
        (qkv,) = ctx.saved_tensors
        R, N, _, H, W = qkv.shape
        out = torch.empty_like(qkv)
        _call("attention_backward", qkv, gradient.contiguous(), out, R, N, H, W, ctx.scale)
        return out, None


class NativeGelu(torch.autograd.Function):
    """x Phi(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Element by element."""
        x = x.contiguous()
        ctx.save_for_backward(x)
        return _gelu(x, None)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The gradient times Phi(x) + x phi(x)."""
        return _gelu(ctx.saved_tensors[0], gradient.contiguous())


def dropped_sum(base: Tensor | None, x: Tensor, noise: Tensor, thresholds: Tensor, scales: Tensor) -> Tensor:
    """Base + the numbers of x whose noise reaches its copy's threshold, scaled; without gradient.

    `noise` [*copies, B, N, D] may be a slice of a larger one whose windows lie equally far apart.
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
    """Sum of the squares of all numbers of contiguous tensors."""
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
    """AdamW in place; all tensors contiguous, the moments given by their addresses, the numbers as in kernels.cpp."""
    arrays = (addresses(weights), addresses(gradients), means, squares, _sizes(weights))
    _call("adamw", *arrays, len(weights), clip, float(kept), first, second, size, root, epsilon)


def addresses(tensors: Sequence[Tensor]) -> Tensor:
    """Where the numbers of each tensor begin, for kernels that take many tensors at once."""
    return torch.tensor([tensor.data_ptr() for tensor in tensors])


def _sizes(tensors: Sequence[Tensor]) -> Tensor:
    return torch.tensor([tensor.numel() for tensor in tensors])


def _gelu(x: Tensor, gradient: Tensor | None) -> Tensor:
    out = torch.empty_like(x)
    _call("gelu_all", x, gradient, out, x.numel())
    return out


def _call(name: str, *arguments: Tensor | int | float | None) -> Any:
    """Call a kernel with as many threads as torch uses; a float is a C float, any other number a long."""
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
    """A file of this user's for these kernels on this kind of processor; another source or machine has another name."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    about = (SOURCE.read_bytes(), " ".join(FLAGS).encode(), platform.machine().encode(), _processor().encode())
    return home / "tapescale" / f"kernels-{hashlib.sha256(b'|'.join(about)).hexdigest()[:16]}.so"


def _processor() -> str:
    """Names what -march=native saw: a cache may be shared by machines with other instructions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
    return next((line for line in lines if line.startswith(("flags", "Features"))), lines[0] if lines else "")


def _compile(path: Path) -> bool:
    """Build under a temporary name and rename, since several processes may start at once; False where nothing builds it."""
    compilers = [found for name in COMPILERS if (found := shutil.which(name))]
    for compiler in compilers:
        # Apple's clang has no OpenMP: one thread then.
        for extra in (("-fopenmp",), ()):
            if _build([compiler, *FLAGS, *extra], path):
                return True
    return False


def _build(command: Sequence[str], path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        try:
            subprocess.run([*command, str(SOURCE), "-o", str(built)], check=True, capture_output=True, timeout=COMPILE_SECONDS)
        except (subprocess.SubprocessError, OSError):
            return False
        os.replace(built, path)
    return True
