"""Handwritten AdamW: a Python loop over the parameters with a few torch calls for each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


class LoopAdamW:
    """AdamW (Loshchilov & Hutter 2019), with the default settings of `torch.optim.AdamW`."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        self.betas = betas
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.steps = 0
        self._averages = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter by its gradient."""
        self.steps += 1
        first, second = self.betas
        step_size = self.learning_rate / (1 - first**self.steps)
        correction = math.sqrt(1 - second**self.steps)
        for parameter, average, square in zip(self.parameters, self._averages, self._squares, strict=True):
            gradient = parameter.grad
            assert gradient is not None
            parameter.mul_(1 - self.learning_rate * self.weight_decay)
            average.mul_(first).add_(gradient, alpha=1 - first)
            square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            scale = square.sqrt().div_(correction).add_(self.epsilon)
            parameter.addcdiv_(average, scale, value=-step_size)


def give_gradients(parameters: Sequence[nn.Parameter], seed: int = 0) -> None:
    """Set random gradients, so that a step can be timed without a backward pass."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
