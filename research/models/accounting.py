"""Parameters and operations of an architecture, in closed form; tests compare them with every architecture of every grid.

d width, L layers, f feed-forward width, n patches, P patch length, F features; a block's own costs are its family's.
"""

from __future__ import annotations

from research.models.families import family_of
from research.spec import ArchitectureSpec


def parameter_count(a: ArchitectureSpec) -> int:
    """Return (P*F+1)d + nd + L blocks + 2d + nd + 1; plus 2Fd with normalised windows and d per known symbol.

    A transformer's block has 4d^2 + 8d + 2df + f + d.
    """
    d, n = a.d_model, a.n_patches
    embedding = (a.patch_length * a.n_features + 1) * d + n * d + (2 * a.n_features * d if a.window_norm else 0)
    return embedding + a.n_symbols * d + a.n_layers * family_of(a).parameters(a) + 2 * d + n * d + 1


def forward_flops(a: ArchitectureSpec) -> int:
    """Return the floating-point operations of all matrix products of one window's forward pass (multiply-add = 2)."""
    return _input_flops(a) + a.n_layers * family_of(a).flops(a) + 2 * a.n_patches * a.d_model


def training_flops(a: ArchitectureSpec) -> int:
    """Return the operations of forward and backward: each product has two gradients, but the input needs none."""
    return 3 * forward_flops(a) - _input_flops(a)


def _input_flops(a: ArchitectureSpec) -> int:
    level = 2 * (2 * a.n_features) * a.d_model if a.window_norm else 0
    return 2 * a.n_patches * a.patch_length * a.n_features * a.d_model + level
