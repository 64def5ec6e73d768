"""AdamW with decay on matrices only, linear warm-up, then cosine."""

from __future__ import annotations

import math

import torch
from torch import nn

from research.spec import TrainingSpec

FINAL_SHARE = 0.1
"""The cosine ends at this share of the peak learning rate."""


def build_optimizer(model: nn.Module, spec: TrainingSpec) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019), fused. Biases, norms and positions do not decay: they are no matrices of weights."""
    matrices = [p for name, p in model.named_parameters() if p.ndim >= 2 and "positions" not in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    groups = [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(0.9, 0.95), fused=True)


class WarmupCosine:
    """Learning rate per optimizer step: linear from 0 to the peak over `warmup_steps`, then cosine to 10% of it."""

    def __init__(self, optimizer: torch.optim.Optimizer, warmup_steps: int, total_steps: int):
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self._optimizer = optimizer
        self.peak = float(optimizer.param_groups[0]["lr"])

    def share_at(self, step: int) -> float:
        """Share of the peak at optimizer step `step`, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def set(self, step: int) -> float:
        """Set the rate for the coming step and return it."""
        rate = self.peak * self.share_at(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return rate
