"""PatchTransformer: a window of days in, one logit out.

Shapes: B batch, T context days, F features, N patches, P patch length, D model width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from research.models.layers import Block
from research.spec import ArchitectureSpec

NORM_EPSILON = 1e-5


class PatchTransformer(nn.Module):
    """Patches (Nie et al. 2023, PatchTST) -> linear embedding -> pre-norm blocks -> flattened linear head.

    Returns logits, never probabilities: the sigmoid is applied once, where a probability is reported.
    """

    def __init__(self, architecture: ArchitectureSpec, dropout: float = 0.0):
        super().__init__()
        a = architecture
        self.architecture = a
        self.embedding = nn.Linear(a.patch_length * a.n_features, a.d_model)
        self.level = nn.Linear(2 * a.n_features, a.d_model, bias=False) if a.window_norm else None
        self.symbols = nn.Embedding(a.n_symbols, a.d_model) if a.n_symbols else None
        self.positions_ND = nn.Parameter(torch.empty(a.n_patches, a.d_model))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(a.d_model, a.n_heads, a.d_ff, dropout) for _ in range(a.n_layers))
        self.norm = nn.LayerNorm(a.d_model)
        self.head = nn.Linear(a.n_patches * a.d_model, 1)
        self._initialise()

    def _initialise(self) -> None:
        """Unit-variance linear maps; residual branches scaled by 1/sqrt(2 * layers) (Radford et al. 2019, 2.3).

        Without the scaling the stream's variance grows with depth and a 256-layer net does not train.
        The head starts at zero, so that the first loss is log 2 at every size.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.positions_ND, std=0.02)
        if self.symbols is not None:
            nn.init.normal_(self.symbols.weight, std=0.02)
        nn.init.zeros_(self.head.weight)
        branch_scale = 1 / math.sqrt(2 * self.architecture.n_layers)
        with torch.no_grad():
            for block in self.blocks:
                assert isinstance(block, Block)
                block.attention.out.weight.mul_(branch_scale)
                block.contract.weight.mul_(branch_scale)

    def patches(self, x_BTF: Tensor) -> Tensor:
        """Right-aligned patches [B, N, P*F]: the last one ends on the newest day; the oldest odd days are dropped."""
        a = self.architecture
        covered = (a.n_patches - 1) * a.patch_stride + a.patch_length
        newest_BtF = x_BTF[:, x_BTF.shape[1] - covered :]
        return newest_BtF.unfold(1, a.patch_length, a.patch_stride).transpose(2, 3).flatten(2)

    def forward(self, x_BTF: Tensor, symbol_B: Tensor | None = None) -> Tensor:
        """Logits [B]; a model with symbol embeddings needs each window's instrument, a blind one never sees it."""
        level_BD = 0.0
        if self.level is not None:
            x_BTF, removed_B2F = remove_level(x_BTF)
            level_BD = self.level(removed_B2F).unsqueeze(1)
        x_BND = self.embedding(self.patches(x_BTF)) + self.positions_ND + level_BD
        if self.symbols is not None:
            assert symbol_B is not None
            x_BND = x_BND + self.symbols(symbol_B).unsqueeze(1)
        x_BND = self.dropout(x_BND)
        for block in self.blocks:
            x_BND = block(x_BND)
        logits_B: Tensor = self.head(self.norm(x_BND).flatten(1)).squeeze(1)
        return logits_B


def remove_level(x_BTF: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise each window per feature (RevIN, Kim et al. 2022) and return what was removed, [B, 2F].

    The level holds the volatility, which is most of the signal: it must go back in as an input.
    """
    mean_B1F = x_BTF.mean(dim=1, keepdim=True)
    scale_B1F = (x_BTF.var(dim=1, keepdim=True, correction=0) + NORM_EPSILON).sqrt()
    removed_B2F = torch.cat([mean_B1F, scale_B1F.log()], dim=2).squeeze(1)
    return (x_BTF - mean_B1F) / scale_B1F, removed_B2F
