"""Hugging Face's PatchTST at the layers, width, heads and feed-forward width of one of our shapes.

It treats each feature as a series of its own, so that a window has F times as many tokens as ours.

Shapes: B batch, T context days, F features. n patches, P patch length, d width, f feed-forward width, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.cpu_time import cpu_in_turn
from research.spec import ArchitectureSpec

MICRO_BATCH = 8
"""Windows per pass: 64 windows of a 48-layer model would hold 9 GB of activations. A pass of 8 has 2,200 tokens, and
more make it no faster."""
INSTALL = ".venv/bin/python -m pip install -c constraints.txt -e '.[bench]'"


@dataclass(frozen=True, kw_only=True)
class PatchTstCost:
    """What training takes."""

    windows: int
    """Per optimizer step."""
    seconds_per_step: float
    """Processor seconds of one thread."""
    tokens_per_window: int
    forward_flops: int
    """Of one window (multiply-add = 2)."""
    training_flops: int
    """Of one window, forward and backward."""

    @property
    def flops_per_second(self) -> float:
        """Reached rate, to be held against the peak of this machine."""
        return self.windows * self.training_flops / self.seconds_per_step


def missing() -> str:
    """One sentence if PatchTST cannot be measured here, else nothing."""
    return "" if find_spec("transformers") else f"PatchTST is left out, transformers is not installed: {INSTALL}"


class PatchTst:
    """A model built from its configuration alone, and everything that one optimizer step needs."""

    def __init__(self, architecture: ArchitectureSpec, *, batch_size: int, dropout: float = 0.1):
        a = architecture
        self.model = patchtst_model(a, dropout)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        generator = torch.Generator().manual_seed(0)
        self._x_BTF = torch.randn(batch_size, a.context_length, a.n_features, generator=generator)
        self._y_B = torch.randint(2, (batch_size,), generator=generator).float()

    def logits(self, x_BTF: Tensor) -> Tensor:
        """Logits [B]."""
        logits_B1: Tensor = self.model(past_values=x_BTF).prediction_logits
        return logits_B1.squeeze(1)

    def step(self) -> None:
        """One optimizer step on the same windows again."""
        self.optimizer.zero_grad()
        for x_BTF, y_B in zip(*(torch.split(whole, MICRO_BATCH) for whole in (self._x_BTF, self._y_B)), strict=True):
            loss = F.binary_cross_entropy_with_logits(self.logits(x_BTF), y_B, reduction="sum") / len(self._y_B)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


def patchtst_model(a: ArchitectureSpec, dropout: float) -> nn.Module:
    """One logit, dropout where ours has it; nothing is downloaded."""
    # Takes seconds to load and is there only where the extra is installed.
    from transformers import PatchTSTConfig, PatchTSTForClassification

    config = PatchTSTConfig(
        num_input_channels=a.n_features,
        context_length=a.context_length,
        patch_length=a.patch_length,
        patch_stride=a.patch_stride,
        num_hidden_layers=a.n_layers,
        d_model=a.d_model,
        num_attention_heads=a.n_heads,
        ffn_dim=a.d_ff,
        # The batch norm that it has by default is slower.
        norm_type="layernorm",
        positional_dropout=dropout,
        path_dropout=dropout,
        num_targets=1,
    )
    model: nn.Module = PatchTSTForClassification(config)
    return model.train()


def patchtst_cost(a: ArchitectureSpec, *, batch_size: int, steps: int) -> PatchTstCost:
    """Median of so many optimizer steps; only where `missing` says nothing."""
    (seconds,) = cpu_in_turn([PatchTst(a, batch_size=batch_size).step], steps)
    return PatchTstCost(
        windows=batch_size,
        seconds_per_step=seconds,
        tokens_per_window=tokens_per_window(a),
        forward_flops=forward_flops(a),
        training_flops=training_flops(a),
    )


def tokens_per_window(a: ArchitectureSpec) -> int:
    """Every feature is cut into patches of its own."""
    return a.n_features * a.n_patches


def forward_flops(a: ArchitectureSpec) -> int:
    """All matrix products of one window: per series those of our blocks, then a head on the mean of each series."""
    d, f, n = a.d_model, a.d_ff, a.n_patches
    block = 2 * n * (4 * d * d + 2 * d * f) + 2 * (2 * n * n * d)
    return _input_flops(a) + a.n_features * (a.n_layers * block + 2 * d)


def training_flops(a: ArchitectureSpec) -> int:
    """Forward plus backward: each product has two gradients, except that the input needs none."""
    return 3 * forward_flops(a) - _input_flops(a)


def _input_flops(a: ArchitectureSpec) -> int:
    return a.n_features * 2 * a.n_patches * a.patch_length * a.d_model
