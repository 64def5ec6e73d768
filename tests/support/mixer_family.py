"""A second family, for tests: tokens are mixed by a linear map over them in place of attention.

The token mixing of MLP-Mixer (Tolstikhin et al. 2021) in its simplest form; docs/how-to/add-a-model-family.md adds the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch import Tensor

from research.models.families import FAMILIES, Family
from research.models.kernels.dropout import Dropout
from research.models.layers import Copies, Linear, Norm, StreamBlock, gelu
from research.spec import ArchitectureSpec

MIXER = "test-mixer"


class MixerBlock(StreamBlock):
    """A linear map over tokens, then feed-forward; pre-norm, dropout on both branches."""

    family = MIXER

    def __init__(self, d_model: int, n_tokens: int, d_ff: int, dropout: Dropout, *, copies: Copies = ()):
        super().__init__()
        self.norm_mix = Norm(d_model, copies=copies)
        # A bias would add the same number to all features of a token, which every norm takes away again.
        self.mix = Linear(n_tokens, n_tokens, bias=False, copies=copies)
        self.norm_feed_forward = Norm(d_model, copies=copies)
        self.expand = Linear(d_model, d_ff, copies=copies)
        self.contract = Linear(d_ff, d_model, copies=copies)
        self.dropout = dropout

    @property
    def branch_ends(self) -> tuple[Linear, ...]:
        """The map over tokens and the end of the feed-forward part."""
        return self.mix, self.contract

    def forward(self, x_BND: Tensor, noise_B2ND: Tensor | None = None) -> Tensor:
        """Every feature is mixed over tokens by the same map."""
        mixed_BDN = self.mix(self.norm_mix(x_BND).mT)
        x_BND = self.dropout(x_BND, mixed_BDN.mT, noise_B2ND, 0)
        hidden_BNf = gelu(self.expand(self.norm_feed_forward(x_BND)))
        out_BND: Tensor = self.dropout(x_BND, self.contract(hidden_BNf), noise_B2ND, 1)
        return out_BND


class Mixer(Family):
    """What a mixer's block costs."""

    def block(self, a: ArchitectureSpec, dropout: Dropout, *, copies: Copies) -> StreamBlock:
        return MixerBlock(a.d_model, a.n_patches, a.d_ff, dropout, copies=copies)

    def read_back(self, block: Any) -> dict[str, int]:
        return {"n_heads": 1, "d_ff": block.expand.out_features}

    def parameters(self, a: ArchitectureSpec) -> int:
        d, f, n = a.d_model, a.d_ff, a.n_patches
        return n * n + 5 * d + 2 * d * f + f

    def flops(self, a: ArchitectureSpec) -> int:
        d, f, n = a.d_model, a.d_ff, a.n_patches
        return 2 * d * n * n + 2 * n * 2 * d * f

    def matrices(self, a: ArchitectureSpec) -> list[tuple[int, int]]:
        return [(a.n_patches, a.n_patches), (a.d_ff, a.d_model), (a.d_model, a.d_ff)]

    def kept(self, a: ArchitectureSpec) -> int:
        # Both norms their input and two statistics, the maps over tokens and to f their input, the map from f and GELU theirs.
        return a.n_patches * (4 * a.d_model + 2 * a.d_ff + 4)

    def backward(self, a: ArchitectureSpec) -> int:
        return a.n_patches * (2 * a.d_ff + 4 * a.d_model)

    def evaluated(self, a: ArchitectureSpec) -> int:
        return a.n_patches * max(2 * a.d_model + 2 * a.d_ff, 3 * a.d_model)


@contextmanager
def mixers() -> Iterator[None]:
    """The registration, while it lasts: this one entry is all that makes a family known."""
    with patch.dict(FAMILIES, {MIXER: Mixer()}):
        yield
