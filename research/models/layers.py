"""Building blocks of the models, for a single model or for a stack of K copies trained side by side.

Shapes: K copies (an axis that a single model does not have, written `...`), B batch, N tokens (patches), D model width,
f feed-forward width, H heads, W head width (D = H * W), S dropout sites of a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from research.models.kernels.attention_dispatch import attend
from research.models.kernels.dropout import Dropout
from research.models.kernels.native import NativeGelu, usable
from research.spec import TRANSFORMER

Copies = tuple[int, ...]
"""() for a single model, (K,) for a stack."""


class Linear(nn.Module):
    """Affine map of the last axis, one per copy of a stack. Weights stored in bfloat16 are widened for use.

    Weights are empty until the model initialises or loads them: a large model is filled once, not twice.
    """

    def __init__(self, d_in: int, d_out: int, *, bias: bool = True, copies: Copies = ()):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*copies, d_out, d_in))
        self.bias = nn.Parameter(torch.empty(*copies, d_out)) if bias else None

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return self.weight.shape[-1]

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.weight.shape[-2]

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., d_in] to [..., d_out]."""
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if weight.ndim == 2:
            return F.linear(x, weight, bias)
        flat = x.flatten(1, -2)
        out = torch.bmm(flat, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), flat, weight.mT)
        return out.view(*x.shape[:-1], weight.shape[1])


class Norm(nn.Module):
    """Layer normalisation (Ba et al. 2016) of the last axis."""

    def __init__(self, d_model: int, *, copies: Copies = ()):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*copies, d_model))
        self.bias = nn.Parameter(torch.zeros(*copies, d_model))

    def forward(self, x_BND: Tensor) -> Tensor:
        """Normalise, then scale and shift with the weights of each copy."""
        weight, bias = self.weight.to(x_BND.dtype), self.bias.to(x_BND.dtype)
        if weight.ndim == 1:
            return F.layer_norm(x_BND, weight.shape, weight, bias)
        normal = F.layer_norm(x_BND, weight.shape[-1:])
        return torch.addcmul(bias[:, None, None], normal, weight[:, None, None])


class Attention(nn.Module):
    """Multi-head self-attention over all tokens (Vaswani et al. 2017, section 3.2), one fused projection."""

    def __init__(self, d_model: int, n_heads: int, *, copies: Copies = (), scale: float | None = None):
        super().__init__()
        self.n_heads = n_heads
        self.scale = scale
        self.qkv = Linear(d_model, 3 * d_model, copies=copies)
        self.out = Linear(d_model, d_model, copies=copies)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Mix the tokens; no causal mask, since every token of a window is in the past."""
        *_, N, D = x_BND.shape
        qkv_RN3HW = self.qkv(x_BND).view(-1, N, 3, self.n_heads, D // self.n_heads)
        out: Tensor = self.out(attend(qkv_RN3HW, self.scale).view(x_BND.shape))
        return out


class StreamBlock(nn.Module, ABC):
    """Block of any family: adds two branches to the stream, with dropout site 0 on the first and 1 on the second.

    All maps are `Linear`, which the model initialises. With copies every parameter has the copies as its first axis.
    """

    family: ClassVar[str]
    """Name in `research.models.families.FAMILIES`; the `family` that a run records is read from here."""

    @property
    @abstractmethod
    def branch_ends(self) -> tuple[Linear, ...]:
        """Maps whose outputs are added to the stream."""

    @abstractmethod
    def forward(self, x_BND: Tensor, noise_B2ND: Tensor | None = None) -> Tensor:
        """Return the stream after this block; dropout applies if there is noise."""


class Block(StreamBlock):
    """Pre-norm transformer block; dropout on both residual branches."""

    family = TRANSFORMER

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: Dropout, *, copies: Copies = ()):
        super().__init__()
        self.norm_attention = Norm(d_model, copies=copies)
        self.attention = Attention(d_model, n_heads, copies=copies)
        self.norm_feed_forward = Norm(d_model, copies=copies)
        self.expand = Linear(d_model, d_ff, copies=copies)
        self.contract = Linear(d_ff, d_model, copies=copies)
        self.dropout = dropout

    @property
    def branch_ends(self) -> tuple[Linear, ...]:
        """Last maps of attention and of the feed-forward part."""
        return self.attention.out, self.contract

    def forward(self, x_BND: Tensor, noise_B2ND: Tensor | None = None) -> Tensor:
        """Add attention, then feed-forward with erf GELU, to the stream; dropout applies if there is noise."""
        x_BND = self.dropout(x_BND, self.attention(self.norm_attention(x_BND)), noise_B2ND, 0)
        hidden_BNf = gelu(self.expand(self.norm_feed_forward(x_BND)))
        out_BND: Tensor = self.dropout(x_BND, self.contract(hidden_BNf), noise_B2ND, 1)
        return out_BND


def gelu(x: Tensor) -> Tensor:
    """Return x Phi(x), with Phi the normal distribution function (Hendrycks & Gimpel 2016)."""
    if usable(x):
        out: Tensor = NativeGelu.apply(x)  # type: ignore[no-untyped-call]
        return out
    return F.gelu(x)
