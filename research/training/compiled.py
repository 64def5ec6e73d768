"""Compilation of a model's blocks: all blocks are the same code on other weights, so that depth adds no compilation."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import torch

from research.models.patch_transformer import PatchTransformer


def compile_blocks(model: PatchTransformer, backend: str = "inductor") -> None:
    """Compile the blocks in place; code that the compiler does not support runs uncompiled."""
    torch._dynamo.config.suppress_errors = True
    for block in model.blocks:
        block.compile(backend=backend)


def compiles(device: torch.device) -> bool:
    """Return whether to compile blocks on this device; a CPU is faster with the native kernels."""
    if device.type != "cuda":
        return False
    if find_spec("triton") is None:
        warnings.warn("triton is not installed; blocks are not compiled", stacklevel=2)
        return False
    return True
