"""Loading of trained weights into a model that predicts."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec


def load_weights(architecture: ArchitectureSpec, path: Path, *, base_width: int = 0) -> PatchTransformer:
    """Return a model with the weights of a file, on the CPU and in evaluation mode; `base_width` is that of its training."""
    model = PatchTransformer(architecture, base_width=base_width)
    model.load_state_dict(load_file(path))
    return model.eval()
