"""Families of models by name. A family is what a block does to the stream; all else of a model is the same in every family.

A model is patches -> embedding -> blocks -> norm -> head, a stream of tokens that every block adds two branches to. What the
first branch mixes the tokens with is nearly free (Yu et al. 2022, "MetaFormer is actually what you need for vision"):
attention, a linear map over tokens, a convolution, a recurrence. Budgets, plans, stacks, shards, low memory, checkpoints and
serving know blocks only by what stands here. Closed forms need no torch: a block's code is loaded when one is built.

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
    """One kind of block and what it costs. Counts are held to the built model by tests/research/training/test_families.py."""

    attends: ClassVar[bool] = False
    """Whether a block has an `attention` of `n_heads` heads: then heads are searched, a kernel is chosen for it, and
    WIDTH_TRANSFER scales its scores. A block that has none has one head in its spec."""

    @abstractmethod
    def block(self, a: ArchitectureSpec, dropout: Dropout, *, copies: Copies) -> StreamBlock:
        """A block of this shape, not initialised."""

    @abstractmethod
    def read_back(self, block: Any) -> dict[str, int]:
        """`n_heads` and `d_ff` of a built block, from the objects that use them."""

    @abstractmethod
    def parameters(self, a: ArchitectureSpec) -> int:
        """Parameters of a block."""

    @abstractmethod
    def flops(self, a: ArchitectureSpec) -> int:
        """Operations of all matrix products of one window's forward pass through a block (multiply-add = 2)."""

    @abstractmethod
    def matrices(self, a: ArchitectureSpec) -> list[tuple[int, int]]:
        """Rows and columns of the matrices of a block."""

    @abstractmethod
    def kept(self, a: ArchitectureSpec) -> int:
        """Numbers that one window's forward pass through a block keeps for backward, random bits left out."""

    @abstractmethod
    def backward(self, a: ArchitectureSpec) -> int:
        """Numbers of one window that are alive at once in a block's backward pass, at most."""

    @abstractmethod
    def evaluated(self, a: ArchitectureSpec) -> int:
        """Numbers of one window that are alive at once in a block's forward pass without gradients, at most."""


class Transformer(Family):
    """Attention over tokens, then feed-forward (Vaswani et al. 2017), pre-norm."""

    attends = True

    def block(self, a: ArchitectureSpec, dropout: Dropout, *, copies: Copies) -> StreamBlock:
        """Attention and feed-forward."""
        from research.models.layers import Block

        return Block(a.d_model, a.n_heads, a.d_ff, dropout, copies=copies)

    def read_back(self, block: Any) -> dict[str, int]:
        """From attention and the first map of the feed-forward part."""
        return {"n_heads": block.attention.n_heads, "d_ff": block.expand.out_features}

    def parameters(self, a: ArchitectureSpec) -> int:
        """4d^2 + 8d + 2df + f + d."""
        d, f = a.d_model, a.d_ff
        return 4 * d * d + 8 * d + 2 * d * f + f + d

    def flops(self, a: ArchitectureSpec) -> int:
        """Four maps of attention, two of the feed-forward part, scores and weighted sums."""
        d, f, n = a.d_model, a.d_ff, a.n_patches
        return 2 * n * (4 * d * d + 2 * d * f) + 2 * (2 * n * n * d)

    def matrices(self, a: ArchitectureSpec) -> list[tuple[int, int]]:
        """Those of qkv, out, expand and contract."""
        return [(3 * a.d_model, a.d_model), (a.d_model, a.d_model), (a.d_ff, a.d_model), (a.d_model, a.d_ff)]

    def kept(self, a: ArchitectureSpec) -> int:
        """Per token 8d + 2f + 4.

        Each of the two norms its input d and two statistics; the products their inputs d (qkv), d (out), d (expand),
        f (contract); attention q, k and v 3d (its output is the input of out); GELU its input f.
        """
        return a.n_patches * (8 * a.d_model + 2 * a.d_ff + 4)

    def backward(self, a: ArchitectureSpec) -> int:
        """Gradients at both ends of GELU and of the stream."""
        return a.n_patches * (2 * a.d_ff + 4 * a.d_model)

    def evaluated(self, a: ArchitectureSpec) -> int:
        """Two streams and both ends of GELU, or the stream and what attention takes, makes of it and gives, 7d."""
        return a.n_patches * max(2 * a.d_model + 2 * a.d_ff, 7 * a.d_model)


FAMILIES: dict[str, Family] = {TRANSFORMER: Transformer()}
"""Every family that can be swept, by the name that `ArchitectureSpec.family` and `--family` give it."""


def family_of(a: ArchitectureSpec) -> Family:
    """What the blocks of this architecture are."""
    return family_named(a.family)


def family_named(name: str) -> Family:
    """The family of this name; `InputError` lists those there are."""
    if name not in FAMILIES:
        raise InputError(f"family={name}: there is no such family of models; give {' or '.join(FAMILIES)}.")
    return FAMILIES[name]
