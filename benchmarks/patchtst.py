"""Hugging Face's PatchTST with the layers, width, heads and feed-forward width of one of our architectures.

PatchTST treats each feature as a separate series, so a window has F times as many tokens as in our model.

Shapes: B batch, T context days, F features. n patches, P patch length, d width, f feed-forward width, L layers.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from research.spec import ArchitectureSpec

MICRO_BATCH = 8
"""Windows per pass: 64 windows of a 48-layer model would hold 9 GB of activations. A pass of 8 has 2,200 tokens, and
more make it no faster."""
INSTALL = ".venv/bin/python -m pip install -c constraints.txt -e '.[bench]'"


def missing() -> str:
    """Return one sentence if PatchTST cannot be measured here, else an empty text."""
    return "" if find_spec("transformers") else f"PatchTST is left out, transformers is not installed: {INSTALL}"


class PatchTst:
    """A randomly initialised PatchTST with its optimizer and one batch of random windows."""

    def __init__(self, architecture: ArchitectureSpec, *, batch_size: int, dropout: float = 0.1):
        a = architecture
        self.model = patchtst_model(a, dropout)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        generator = torch.Generator().manual_seed(0)
        self._x_BTF = torch.randn(batch_size, a.context_length, a.n_features, generator=generator)
        self._y_B = torch.randint(2, (batch_size,), generator=generator).float()

    def logits(self, x_BTF: Tensor) -> Tensor:
        """Return the logits, shape [B]."""
        logits_B1: Tensor = self.model(past_values=x_BTF).prediction_logits
        return logits_B1.squeeze(1)

    def step(self) -> None:
        """Take one optimizer step; every step uses the same windows."""
        self.optimizer.zero_grad()
        for x_BTF, y_B in zip(*(torch.split(whole, MICRO_BATCH) for whole in (self._x_BTF, self._y_B)), strict=True):
            loss = F.binary_cross_entropy_with_logits(self.logits(x_BTF), y_B, reduction="sum") / len(self._y_B)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


def patchtst_model(a: ArchitectureSpec, dropout: float) -> nn.Module:
    """Return a PatchTST with one logit and dropout at the same places as our model; nothing is downloaded."""
    # transformers takes seconds to load and is installed only with the extra.
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
        # The default batch norm is slower.
        norm_type="layernorm",
        positional_dropout=dropout,
        path_dropout=dropout,
        num_targets=1,
    )
    model: nn.Module = PatchTSTForClassification(config)
    return model.train()


def tokens_per_window(a: ArchitectureSpec) -> int:
    """Return the tokens of a window: every feature is cut into patches separately."""
    return a.n_features * a.n_patches


def forward_flops(a: ArchitectureSpec) -> int:
    """Return the FLOPs of all matrix products of one window (multiply-add = 2).

    Each series passes through the blocks of our model; then a head reads the mean of each series.
    """
    d, f, n = a.d_model, a.d_ff, a.n_patches
    block = 2 * n * (4 * d * d + 2 * d * f) + 2 * (2 * n * n * d)
    return _input_flops(a) + a.n_features * (a.n_layers * block + 2 * d)


def training_flops(a: ArchitectureSpec) -> int:
    """Return the FLOPs of forward and backward: each product has two gradients, except at the input, which needs none."""
    return 3 * forward_flops(a) - _input_flops(a)


def _input_flops(a: ArchitectureSpec) -> int:
    return a.n_features * 2 * a.n_patches * a.patch_length * a.d_model
