"""AdamW with decay on matrices only, linear warm-up and cosine decay; optionally with rates that transfer across widths.

Width transfer is the parametrisation muP for Adam (Yang et al. 2022, "Tensor Programs V", table 3; its attention scale is in
`PatchTransformer`). An Adam step changes each entry of a matrix by about the rate, all along the same input: the change of the
matrix's output per step grows with its fan-in. Matrices whose fan-in grows with the model's width d therefore get
rate * base_width / d: attention and feed-forward of every block, and the head. Embeddings, positions, norms and biases keep
the rate. At d = base_width every rate is the plain one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from research.spec import ArchitectureSpec, TrainingSpec

FINAL_SHARE = 0.1
"""The cosine ends at this share of the peak learning rate."""
READS_WIDTH = ("blocks.", "head.")
"""Name prefixes of the matrices whose fan-in grows with the model's width."""
LR_SCALE = "lr_scale"
"""Key of a parameter group whose rate is this multiple of the schedule's; only width transfer sets it."""


def build_optimizer(
    parameters: Iterable[tuple[str, Tensor]], spec: TrainingSpec, architecture: ArchitectureSpec
) -> torch.optim.AdamW:
    """Return a fused AdamW (Loshchilov & Hutter 2019). Only weight matrices decay; biases, norms and positions do not.

    `parameters` are those of one model by name, its own or its part of a stack's.
    """
    named = list(parameters)
    matrices = [(name, p) for name, p in named if p.ndim >= 2 and "positions" not in name]
    chosen = {id(p) for _, p in matrices}
    others = [p for _, p in named if id(p) not in chosen]
    groups = [*_decaying(matrices, spec, architecture), {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(0.9, 0.95), fused=True)


def _decaying(
    matrices: Sequence[tuple[str, Tensor]], spec: TrainingSpec, architecture: ArchitectureSpec
) -> list[dict[str, Any]]:
    """Return the groups of matrices; the first has the plain rate and decay."""
    if not spec.base_width:
        return [{"params": [p for _, p in matrices], "weight_decay": spec.weight_decay}]
    scale = spec.base_width / architecture.d_model
    plain = [p for name, p in matrices if not name.startswith(READS_WIDTH)]
    scaled = {
        "params": [p for name, p in matrices if name.startswith(READS_WIDTH)],
        "lr": spec.learning_rate * scale,
        LR_SCALE: scale,
        # AdamW shrinks a weight by rate * decay a step. That product, and with it the number of steps that a weight
        # remembers, must not depend on the width (Wang & Aitchison 2024, "How to set AdamW's weight decay").
        "weight_decay": spec.weight_decay / scale,
    }
    return [{"params": plain, "weight_decay": spec.weight_decay}, scaled]


def keep_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Store the learning rates on the device, where a recorded step reads them."""
    for group in optimizer.param_groups:
        group["capturable"] = True
        group["lr"] = torch.tensor(float(group["lr"]), device=device)


def base_width_in(optimizer: torch.optim.Optimizer, architecture: ArchitectureSpec) -> int:
    """Return the base width of the optimizer's rates; 0 if no rate is scaled."""
    scales = [group[LR_SCALE] for group in optimizer.param_groups if LR_SCALE in group]
    return round(scales[0] * architecture.d_model) if scales else 0


class WarmupCosine:
    """Learning rate per optimizer step: linear from 0 to the peak over `warmup_steps`, then cosine to 10% of it."""

    def __init__(self, optimizer: torch.optim.Optimizer, warmup_steps: int, total_steps: int):
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self._optimizer = optimizer
        self.peak = float(optimizer.param_groups[0]["lr"])

    def share_at(self, step: int) -> float:
        """Return the share of the peak at an optimizer step, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def set(self, step: int) -> float:
        """Set the rate of a step in every group, scaled groups at their multiple, and return the plain rate."""
        rate = self.peak * self.share_at(step)
        for group in self._optimizer.param_groups:
            scaled = rate * group.get(LR_SCALE, 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(scaled)
            else:
                group["lr"] = scaled
        return rate
