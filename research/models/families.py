"""Families of models by name. Families differ in what a block does to the stream; the rest of the model is the same.

A model is patches -> embedding -> blocks -> norm -> head. Every block adds two branches to the stream of tokens. The first
may mix tokens by attention, a linear map, a convolution or a recurrence (Yu et al. 2022, "MetaFormer is actually what you
need for vision"). Budgets, plans, stacks, shards, low memory, checkpoints and serving use blocks only through this interface.
Closed forms need no torch: a block's code is loaded when a block is built.

d width, f feed-forward width, n patches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from research.errors import InputError
from research.spec import TRANSFORMER, ArchitectureSpec

if TYPE_CHECKING:
    from research.models.kernels.dropout import Dropout
    from research.models.layers import Copies, StreamBlock


class Family(ABC):
    """A kind of block and its costs. tests/research/training/test_families.py compares the counts with built models."""

    attends: ClassVar[bool] = False
    """Whether a block has an `attention` of `n_heads` heads. Then heads are searched, an attention kernel is chosen and
    WIDTH_TRANSFER scales the scores. Without attention the spec has one head."""

    @abstractmethod
    def block(self, a: ArchitectureSpec, dropout: Dropout, *, copies: Copies) -> StreamBlock:
        """Return a block of this shape, not initialised."""

    @abstractmethod
    def read_back(self, block: Any) -> dict[str, int]:
        """Return `n_heads` and `d_ff` of a built block, from the objects that use them."""

    @abstractmethod
    def parameters(self, a: ArchitectureSpec) -> int:
        """Return the number of parameters of a block."""

    @abstractmethod
    def flops(self, a: ArchitectureSpec) -> int:
        """Return the operations of all matrix products of one window's forward pass through a block (multiply-add = 2)."""

    @abstractmethod
    def matrices(self, a: ArchitectureSpec) -> list[tuple[int, int]]:
        """Return rows and columns of each matrix of a block."""

    @abstractmethod
    def kept(self, a: ArchitectureSpec) -> int:
        """Return how many numbers a window's forward pass through a block keeps for backward, without random bits."""

    @abstractmethod
    def backward(self, a: ArchitectureSpec) -> int:
        """Return the peak of numbers alive in a block's backward pass, per window."""

    @abstractmethod
    def evaluated(self, a: ArchitectureSpec) -> int:
        """Return the peak of numbers alive in a block's forward pass without gradients, per window."""


class Transformer(Family):
    """Attention over tokens, then feed-forward (Vaswani et al. 2017), pre-norm."""

    attends = True

    def block(self, a: ArchitectureSpec, dropout: Dropout, *, copies: Copies) -> StreamBlock:
        """Return a block of attention and feed-forward."""
        from research.models.layers import Block

        return Block(a.d_model, a.n_heads, a.d_ff, dropout, copies=copies)

    def read_back(self, block: Any) -> dict[str, int]:
        """Read the heads from attention and `d_ff` from the first map of the feed-forward part."""
        return {"n_heads": block.attention.n_heads, "d_ff": block.expand.out_features}

    def parameters(self, a: ArchitectureSpec) -> int:
        """Return 4d^2 + 8d + 2df + f + d."""
        d, f = a.d_model, a.d_ff
        return 4 * d * d + 8 * d + 2 * d * f + f + d

    def flops(self, a: ArchitectureSpec) -> int:
        """Count four maps of attention, two of the feed-forward part, scores and weighted sums."""
        d, f, n = a.d_model, a.d_ff, a.n_patches
        return 2 * n * (4 * d * d + 2 * d * f) + 2 * (2 * n * n * d)

    def matrices(self, a: ArchitectureSpec) -> list[tuple[int, int]]:
        """Return the shapes of qkv, out, expand and contract."""
        return [(3 * a.d_model, a.d_model), (a.d_model, a.d_model), (a.d_ff, a.d_model), (a.d_model, a.d_ff)]

    def kept(self, a: ArchitectureSpec) -> int:
        """Return 8d + 2f + 4 per token.

        Each of the two norms keeps its input d and two statistics. The products keep their inputs: d (qkv), d (out),
        d (expand), f (contract). Attention keeps q, k and v, 3d; its output is the input of out. GELU keeps its input f.
        """
        return a.n_patches * (8 * a.d_model + 2 * a.d_ff + 4)

    def backward(self, a: ArchitectureSpec) -> int:
        """Count the gradients at both ends of GELU and of the stream."""
        return a.n_patches * (2 * a.d_ff + 4 * a.d_model)

    def evaluated(self, a: ArchitectureSpec) -> int:
        """Count two streams and both ends of GELU, or 7d: the stream with the input, q, k, v and output of attention."""
        return a.n_patches * max(2 * a.d_model + 2 * a.d_ff, 7 * a.d_model)


FAMILIES: dict[str, Family] = {TRANSFORMER: Transformer()}
"""Families that can be swept, by the name in `ArchitectureSpec.family` and `--family`."""


def family_of(a: ArchitectureSpec) -> Family:
    """Return the family of an architecture."""
    return family_named(a.family)


def family_named(name: str) -> Family:
    """Return the family of this name; `InputError` lists the known ones."""
    if name not in FAMILIES:
        raise InputError(f"family={name}: unknown family of models; give {' or '.join(FAMILIES)}.")
    return FAMILIES[name]
