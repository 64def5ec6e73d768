"""Building blocks of the transformer.

Shapes: B batch, N tokens (patches), D model width, H heads, K head width (D = H * K).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention over all tokens (Vaswani et al. 2017, section 3.2), one fused projection."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Mix tokens; no mask, since every token of a window is past."""
        B, N, D = x_BND.shape
        q_BHNK, k_BHNK, v_BHNK = self.qkv(x_BND).view(B, N, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        mixed_BHNK = F.scaled_dot_product_attention(q_BHNK, k_BHNK, v_BHNK)
        out: Tensor = self.out(mixed_BHNK.transpose(1, 2).reshape(B, N, D))
        return out


class Block(nn.Module):
    """Pre-norm transformer block; dropout on both residual branches."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float):
        super().__init__()
        self.norm_attention = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, n_heads)
        self.norm_feed_forward = nn.LayerNorm(d_model)
        self.expand = nn.Linear(d_model, d_ff)
        self.contract = nn.Linear(d_ff, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Attention, then feed-forward with erf GELU, each added to the stream."""
        x_BND = x_BND + self.dropout(self.attention(self.norm_attention(x_BND)))
        hidden_BNf = F.gelu(self.expand(self.norm_feed_forward(x_BND)))
        out_BND: Tensor = x_BND + self.dropout(self.contract(hidden_BNf))
        return out_BND
