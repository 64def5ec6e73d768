"""Weights on disk: safetensors, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import load_file, save_file

from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec


def save_weights(model: PatchTransformer, path: Path) -> None:
    """Write the weights under a temporary name and rename, so that a reader never sees half a file."""
    staging = path.with_suffix(".partial")
    save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, staging)
    os.replace(staging, path)


def load_weights(architecture: ArchitectureSpec, path: Path) -> PatchTransformer:
    """A model with these weights, on the CPU and ready to predict."""
    model = PatchTransformer(architecture)
    model.load_state_dict(load_file(path))
    return model.eval()
