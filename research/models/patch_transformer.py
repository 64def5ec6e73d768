"""The model: maps a window of days to one logit. A stack computes K such models side by side.

Shapes: K copies (an axis that a single model does not have, written `...`), B batch, T context days, F features, N patches,
P patch length, D model width, S dropout sites.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from research.models.families import family_of
from research.models.kernels.dropout import Dropout, Noise
from research.models.kernels.native import usable
from research.models.layers import Copies, Linear, Norm, StreamBlock
from research.spec import ArchitectureSpec

NORM_EPSILON = 1e-5


class PatchTransformer(nn.Module):
    """Patches (Nie et al. 2023, PatchTST) -> linear embedding -> pre-norm blocks -> flattened linear head.

    The blocks are those of the architecture's family, by default attention and feed-forward.
    Returns logits, never probabilities: the sigmoid is applied once, where a probability is reported.
    Several dropout rates make a stack with one copy per rate. Parameters, windows and logits then have the copies as
    their first axis.
    """

    def __init__(
        self,
        architecture: ArchitectureSpec,
        dropout: float | Sequence[float] = 0.0,
        *,
        base_width: int = 0,
        stored: torch.dtype = torch.float32,
    ):
        super().__init__()
        a = architecture
        rates = (dropout,) if isinstance(dropout, (int, float)) else tuple(dropout)
        copies: Copies = () if isinstance(dropout, (int, float)) else (len(rates),)
        self.architecture = a
        self.recompute = False
        """Whether backward recomputes each block from the stream between blocks (Chen et al. 2016)."""
        self.dropout = Dropout(rates)
        self.noise = Noise(sites=1 + 2 * a.n_layers, n_tokens=a.n_patches, width=a.d_model)
        self.noise.generators = [None] * len(rates)
        self.embedding = Linear(a.patch_length * a.n_features, a.d_model, copies=copies)
        self.level = Linear(2 * a.n_features, a.d_model, bias=False, copies=copies) if a.window_norm else None
        self.symbols_SD = nn.Parameter(torch.empty(*copies, a.n_symbols, a.d_model)) if a.n_symbols else None
        self.positions_ND = nn.Parameter(torch.empty(*copies, a.n_patches, a.d_model))
        self.blocks = nn.ModuleList(family_of(a).block(a, self.dropout, copies=copies) for _ in range(a.n_layers))
        self.norm = Norm(a.d_model, copies=copies)
        self.head = Linear(a.n_patches * a.d_model, 1, copies=copies)
        if base_width:
            # Queries and keys that have learned to agree score W, not sqrt(W): scale by 1/W for heads of width W (Yang et al.
            # 2022, "Tensor Programs V", definition 4.1). A constant makes that the plain 1/sqrt(W) at the base width with as
            # many heads: sqrt(W * base_width / d) / W.
            assert family_of(a).attends
            blocks: Any = self.blocks
            for block in blocks:
                block.attention.scale = (a.d_model // a.n_heads) ** -0.5 * math.sqrt(base_width / a.d_model)
        self._initialise(stored)

    @property
    def copies(self) -> Copies:
        """Shape of the stack: () for a single model, (K,) for K copies."""
        return tuple(self.positions_ND.shape[:-2])

    @property
    def base_width(self) -> int:
        """Width for which attention scores are scaled, read back from the blocks; 0 for the plain scale 1/sqrt(W)."""
        a = self.architecture
        if not family_of(a).attends:
            return 0
        blocks: Any = self.blocks
        scales = {block.attention.scale for block in blocks}
        assert len(scales) == 1
        scale = scales.pop()
        return 0 if scale is None else round(a.d_model * scale**2 * (a.d_model / a.n_heads))

    def _initialise(self, stored: torch.dtype) -> None:
        """Draw unit-variance linear maps; scale residual branches by 1/sqrt(2 * layers) (Radford et al. 2019, 2.3).

        Without the scaling the stream's variance grows with depth and a 256-layer net learns erratically.
        The head starts at zero, so that the first loss is log 2 at every size.
        Each matrix is converted to `stored` as soon as it is drawn: the whole model never exists in float32.
        """
        branch_scale = 1 / math.sqrt(2 * self.architecture.n_layers)
        blocks = [block for block in self.blocks if isinstance(block, StreamBlock)]
        branches = {linear for block in blocks for linear in block.branch_ends}
        for module in self.modules():
            if isinstance(module, Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                with torch.no_grad():
                    module.weight.mul_(branch_scale if module in branches else 1.0)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
                keep_as(stored, module.weight)
        nn.init.normal_(self.positions_ND, std=0.02)
        if self.symbols_SD is not None:
            nn.init.normal_(self.symbols_SD, std=0.02)
        nn.init.zeros_(self.head.weight)
        keep_as(stored, *(parameter for parameter in self.parameters() if parameter.ndim - len(self.copies) >= 2))

    def patches(self, x_BTF: Tensor) -> Tensor:
        """Return right-aligned patches [..., B, N, P*F]; the last one ends on the newest day, odd oldest days are dropped."""
        a = self.architecture
        covered = (a.n_patches - 1) * a.patch_stride + a.patch_length
        newest_BtF = x_BTF[..., x_BTF.shape[-2] - covered :, :]
        return newest_BtF.unfold(-2, a.patch_length, a.patch_stride).transpose(-2, -1).flatten(-2)

    def forward(self, x_BTF: Tensor, symbol_B: Tensor | None = None) -> Tensor:
        """Return logits [..., B]; only a model with symbol embeddings needs `symbol_B`, each window's instrument."""
        level_B1D: Tensor | float = 0.0
        if self.level is not None:
            x_BTF, removed_B2F = remove_level(x_BTF)
            level_B1D = self.level(removed_B2F).unsqueeze(-2)
        positions_1ND = self.positions_ND.to(x_BTF.dtype).unsqueeze(-3)
        x_BND = self.embedding(self.patches(x_BTF)) + positions_1ND + level_B1D
        if self.symbols_SD is not None:
            assert symbol_B is not None
            if self.copies:
                copy_K1 = torch.arange(self.copies[0], device=symbol_B.device).unsqueeze(1)
                x_BND = x_BND + self.symbols_SD[copy_K1, symbol_B].unsqueeze(-2)
            else:
                x_BND = x_BND + self.symbols_SD.to(torch.float32)[symbol_B].unsqueeze(1)
        noise_BSND = self.draw_noise(x_BND)
        x_BND = self.dropout(None, x_BND, noise_BSND, 0)
        for index, block in enumerate(self.blocks):
            noise_B2ND = None if noise_BSND is None else noise_BSND[..., 1 + 2 * index : 3 + 2 * index, :, :]
            if self.recompute and torch.is_grad_enabled():
                x_BND = checkpoint(block, x_BND, noise_B2ND, use_reentrant=False, preserve_rng_state=False)
            else:
                x_BND = block(x_BND, noise_B2ND)
        flat_BC = self.norm(x_BND).flatten(-2)
        # A logit in bfloat16 would have three digits.
        with torch.autocast(flat_BC.device.type, enabled=False):
            logits_B1: Tensor = self.head(flat_BC.to(torch.promote_types(flat_BC.dtype, torch.float32)))
        return logits_B1.squeeze(-1)

    def draw_noise(self, x_BND: Tensor) -> Tensor | None:
        """Return the bits, or masks, of all dropout sites of this pass; None if nothing is dropped."""
        if not (self.training and self.dropout.acts):
            return None
        bits_BSND = self.noise.draw(x_BND.shape[-3], x_BND.device, stacked=bool(self.copies))
        # On a CPU without the kernel, reading bits per site and again in backward takes five times as long as masks.
        plain_cpu = x_BND.device.type == "cpu" and not usable(x_BND)
        return self.dropout.masks(bits_BSND, x_BND.dtype) if plain_cpu else bits_BSND


def keep_as(stored: torch.dtype, *parameters: nn.Parameter) -> None:
    """Convert the storage type of parameters, in place."""
    for parameter in parameters:
        parameter.data = parameter.data.to(stored)


def stacked(models: Sequence[PatchTransformer]) -> PatchTransformer:
    """Return a stack with the weights of these models, which have the same architecture."""
    first = models[0]
    assert len({model.base_width for model in models}) == 1
    stack = PatchTransformer(first.architecture, [model.dropout.rates[0] for model in models], base_width=first.base_width)
    states = [model.state_dict() for model in models]
    stack.load_state_dict({name: torch.stack([state[name] for state in states]) for name in states[0]})
    return stack.to(first.positions_ND.device)


def remove_level(x_BTF: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise each window per feature (RevIN, Kim et al. 2022); return it and the removed mean and log scale, [..., B, 2F].

    The level contains the volatility, which is most of the signal: it must be an input again.
    """
    mean_B1F = x_BTF.mean(dim=-2, keepdim=True)
    scale_B1F = (x_BTF.var(dim=-2, keepdim=True, correction=0) + NORM_EPSILON).sqrt()
    removed_B2F = torch.cat([mean_B1F, scale_B1F.log()], dim=-1).squeeze(-2)
    return (x_BTF - mean_B1F) / scale_B1F, removed_B2F
