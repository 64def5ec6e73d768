"""Settings of a built training, each read back from the object that uses it."""

from __future__ import annotations

import math
from typing import Any

from research.models.families import FAMILIES
from research.models.patch_transformer import PatchTransformer
from research.training.optim import base_width_in
from research.training.trainer import Trainer


def applied_settings(trainer: Trainer, index: int = 0) -> dict[str, Any]:
    """Return the parameters of a trial by name, read from the model, the dataset, the optimizer and the schedule."""
    model = trainer.model
    block: Any = model.blocks[0]
    # Optimizer and attention scores scale with the same base width; a difference must show in the record.
    rates, scores = base_width_in(trainer.states[index].optimizer, model.architecture), model.base_width
    return {
        "d_model": model.positions_ND.shape[-1],
        "n_layers": len(model.blocks),
        "family": block.family,
        **FAMILIES[block.family].read_back(block),
        "context_length": trainer.dataset.context_length,
        "n_features": trainer.dataset.n_features,
        "patch_length": model.embedding.in_features // trainer.dataset.n_features,
        "patch_stride": model.architecture.patch_stride,
        "window_norm": model.level is not None,
        "n_symbols": 0 if model.symbols_SD is None else model.symbols_SD.shape[-2],
        "base_width": rates if rates == scores else f"{rates} for rates, {scores} for attention",
        **trainer.applied(index),
    }


def parameters_of(model: PatchTransformer) -> int:
    """Return the number of parameters of a built model, or of each copy of a stack."""
    return sum(parameter.numel() for parameter in model.parameters()) // math.prod(model.copies)
