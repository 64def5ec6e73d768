"""Update of all weights: gradients clipped by their joint norm, then AdamW.

PyTorch makes several passes over a net's hundreds of small tensors, most of them with a call per tensor. On the CPU two calls
of native kernels do the same; the moments stay in the state of PyTorch's optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from research.models.kernels import native

CLIP_EPSILON = 1e-6
"""Added to the norm that divides the gradients, as in PyTorch."""


class ClippedAdamW:
    """AdamW steps on gradients clipped to a joint norm of at most `max_norm`."""

    def __init__(self, optimizer: torch.optim.AdamW, weights: Sequence[Tensor], max_norm: float):
        self.optimizer = optimizer
        self.weights = list(weights)
        self.max_norm = max_norm
        self._groups: list[_Group] = []
        # Steps are counted here, not in a tensor per weight: the hooks keep the optimizer's state consistent.
        optimizer.register_state_dict_pre_hook(lambda _: self._write_steps())
        optimizer.register_load_state_dict_post_hook(lambda _: self._groups.clear())

    def step(self) -> Tensor:
        """Update the weights by their gradients and return the norm of the gradients before clipping."""
        # The first step is PyTorch's own, which creates the moments.
        if not (native.usable(self.weights[0]) and len(self.optimizer.state) == len(self.weights)):
            self._write_steps()
            self._groups.clear()
            norm_before = nn.utils.clip_grad_norm_(self.weights, self.max_norm)
            self.optimizer.step()
            return norm_before
        if not self._groups:
            self._groups = [_Group(group, self.optimizer) for group in self.optimizer.param_groups]
        gradients = [[_contiguous_gradient(weight) for weight in group.weights] for group in self._groups]
        norm = math.sqrt(sum(native.square_sum(group) for group in gradients))
        for group, group_gradients in zip(self._groups, gradients, strict=True):
            group.step(group_gradients, clip=min(1.0, self.max_norm / (norm + CLIP_EPSILON)))
        return torch.tensor(norm)

    def _write_steps(self) -> None:
        for group in self._groups:
            for state in group.states:
                state["step"].fill_(group.steps)


class _Group:
    """Weights with the same learning rate and decay, and their moments."""

    def __init__(self, settings: dict[str, Any], optimizer: torch.optim.AdamW):
        self.settings = settings
        self.weights: list[Tensor] = settings["params"]
        self.states = [optimizer.state[weight] for weight in self.weights]
        self.steps = int(self.states[0]["step"])
        self.means = native.addresses([state["exp_avg"] for state in self.states])
        self.squares = native.addresses([state["exp_avg_sq"] for state in self.states])

    def step(self, gradients: Sequence[Tensor], clip: float) -> None:
        self.steps += 1
        rate, (first, second) = float(self.settings["lr"]), self.settings["betas"]
        native.adamw(
            self.weights,
            gradients,
            self.means,
            self.squares,
            clip=clip,
            kept=1 - rate * self.settings["weight_decay"],
            first=first,
            second=second,
            size=rate / (1 - first**self.steps),
            root=math.sqrt(1 - second**self.steps),
            epsilon=self.settings["eps"],
        )


def _contiguous_gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad.contiguous()
