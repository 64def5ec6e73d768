"""The optimizer of a sweep. All its shapes use the same one, so that they are compared fairly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from research.spec import ArchitectureSpec, OptimizerName
from research.training.distributed.fsdp import choose_shards
from research.training.memory_estimate import choose_micro_batch


def optimizer_for(
    requested: Literal["auto", "adamw", "adafactor"],
    architectures: Sequence[ArchitectureSpec],
    batch_sizes: Sequence[int],
    device: torch.device,
    available: int,
    *,
    devices: int = 1,
) -> OptimizerName:
    """Return the user's optimizer, else AdamW, or Adafactor if only with it any architecture fits."""
    if requested != "auto":
        return requested
    if fitting_architectures(architectures, batch_sizes, device, available, "adamw", devices=devices):
        return "adamw"
    return "adafactor" if fitting_architectures(architectures, batch_sizes, device, available, "adafactor") else "adamw"


def fitting_architectures(
    architectures: Sequence[ArchitectureSpec],
    batch_sizes: Sequence[int],
    device: torch.device,
    available: int,
    optimizer: OptimizerName,
    *,
    devices: int = 1,
) -> list[ArchitectureSpec]:
    """Return the architectures that fit one window at a time, or with Adafactor the largest batch in one pass.

    With AdamW several devices with `available` bytes each may share a training, with the largest batch in one pass.
    """
    most = max(batch_sizes)
    if optimizer == "adafactor":
        return [a for a in architectures if choose_micro_batch(a, most, available, device, optimizer=optimizer)]

    def fits(a: ArchitectureSpec) -> bool:
        alone = choose_micro_batch(a, 1, available, device)
        return bool(alone or choose_shards(a, most, available, device, devices=devices))

    return [a for a in architectures if fits(a)]
