"""Attention over a dozen tokens by element-wise sums, for a CPU without a compiler.

A batched product of [11, 8] by [8, 11] costs ten times its arithmetic in calls. With windows and heads as the innermost axis,
each step of a sum is one long vector operation.

Shapes: R windows, N tokens, H heads, W head width, L = R * H lanes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class LanesAttention(torch.autograd.Function):
    """softmax(scale q k') v, [R, N, H * W], from the fused projection qkv [R, N, 3, H, W]; shares are computed twice."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, scale: float | None) -> Tensor:
        """Mix the values of each head."""
        R, N, _, H, W = qkv.shape
        ctx.scale = W**-0.5 if scale is None else scale
        ctx.save_for_backward(qkv)
        q_WNL, k_WNL, v_WNL = _as_lanes(qkv)
        out_WNL = _mixed(_shares(q_WNL, k_WNL, ctx.scale), v_WNL)
        return out_WNL.view(W, N, R, H).permute(2, 1, 3, 0).reshape(R, N, H * W)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient of all three parts."""
        (qkv,) = ctx.saved_tensors
        R, N, _, H, W = qkv.shape
        q_WNL, k_WNL, v_WNL = _as_lanes(qkv)
        g_WNL = gradient.reshape(R, N, H, W).permute(3, 1, 0, 2).reshape(W, N, R * H)
        shares_NNL = _shares(q_WNL, k_WNL, ctx.scale)
        d_NNL = _products(g_WNL, v_WNL)
        d_NNL.sub_((d_NNL * shares_NNL).sum(1, keepdim=True)).mul_(shares_NNL).mul_(ctx.scale)
        out = qkv.new_empty(3, W, N, R * H)
        _mixed(d_NNL, k_WNL, out[0])
        _mixed(d_NNL.transpose(0, 1), q_WNL, out[1])
        _mixed(shares_NNL.transpose(0, 1), g_WNL, out[2])
        return out.view(3, W, N, R, H).permute(3, 2, 0, 4, 1).reshape(R, N, 3, H, W), None


def _as_lanes(qkv: Tensor) -> Tensor:
    """[3, W, N, L]."""
    R, N, _, H, W = qkv.shape
    return qkv.permute(2, 4, 1, 0, 3).reshape(3, W, N, R * H)


def _shares(q_WNL: Tensor, k_WNL: Tensor, scale: float) -> Tensor:
    """[i, j, L]: how much token i takes of token j."""
    return _products(q_WNL, k_WNL).mul_(scale).softmax(dim=1)


def _products(x_WNL: Tensor, y_WNL: Tensor) -> Tensor:
    """[i, j, L]: sum over w of x[w, i] y[w, j]."""
    out_NNL = x_WNL[0, :, None] * y_WNL[0, None]
    for w in range(1, len(x_WNL)):
        out_NNL.addcmul_(x_WNL[w, :, None], y_WNL[w, None])
    return out_NNL


def _mixed(shares_NNL: Tensor, x_WNL: Tensor, out_WNL: Tensor | None = None) -> Tensor:
    """[w, i, L]: sum over j of shares[i, j] x[w, j]."""
    out = torch.mul(x_WNL[:, 0, None], shares_NNL[None, :, 0], out=out_WNL)
    for j in range(1, shares_NNL.shape[1]):
        out.addcmul_(x_WNL[:, j, None], shares_NNL[None, :, j])
    return out
