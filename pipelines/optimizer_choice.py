"""Which optimizer a sweep trains with: one for all its shapes, so that none is compared under another one's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from research.spec import ArchitectureSpec, OptimizerName
from research.training.memory import choose_micro_batch


def optimizer_for(
    asked: Literal["auto", "adamw", "adafactor"],
    architectures: Sequence[ArchitectureSpec],
    batch_sizes: Sequence[int],
    device: torch.device,
    available: int,
) -> OptimizerName:
    """The user's; else AdamW, but where none of the shapes fits with it and one does in low memory."""
    if asked != "auto":
        return asked
    if that_fit(architectures, batch_sizes, device, available, "adamw"):
        return "adamw"
    return "adafactor" if that_fit(architectures, batch_sizes, device, available, "adafactor") else "adamw"


def that_fit(
    architectures: Sequence[ArchitectureSpec],
    batch_sizes: Sequence[int],
    device: torch.device,
    available: int,
    optimizer: OptimizerName,
) -> list[ArchitectureSpec]:
    """Shapes that can be trained here: one window at a time, or in low memory the largest batch in one pass."""
    least = max(batch_sizes) if optimizer == "adafactor" else 1
    return [a for a in architectures if choose_micro_batch(a, least, available, device, optimizer=optimizer)]
