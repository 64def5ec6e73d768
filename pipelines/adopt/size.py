"""Sizes recounted by formula: what a legacy budget label says is not the number of parameters that was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.adopt.record import Record, Value
from research.errors import InputError
from research.models.accounting import parameter_count
from research.models.budget import TOLERANCE, Budget
from research.spec import ArchitectureSpec

FF_RATIOS = (2, 4)
"""Feed-forward widths that the earlier study's grids used, as multiples of the model width."""
INPUT_SHAPE = ("context_length", "patch_length", "patch_stride", "n_features")
STATED_TOLERANCE = 0.05
"""How far a stated count may lie from the formula and still tell which feed-forward width was used."""
WITHIN, OUTSIDE, UNCOUNTED, NO_CLAIM = f"within {TOLERANCE:.0%}", f"outside {TOLERANCE:.0%}", "not countable", "no claim"


@dataclass(frozen=True, kw_only=True)
class Size:
    """A counted size and how it was come by."""

    counted: int | None
    """None where the file does not give the shape."""
    d_ff: int | None
    claim: str
    """Whether the budget's label lies within the tolerance of the count."""
    assumed: tuple[str, ...] = ()
    """Names that the file leaves out, with what stood in for them."""
    why: str = ""
    """Why nothing could be counted."""


def size_of(record: Record) -> Size:
    """Count a record's parameters from its shape; `InputError` for a shape that cannot be."""
    if not {"d_model", "n_layers"} <= record.params.keys():
        return Size(counted=None, d_ff=None, claim=UNCOUNTED, why="the shape is not given")
    d_ff = _feed_forward(record)
    if d_ff is None:
        return Size(counted=None, d_ff=None, claim=UNCOUNTED, why="neither d_ff nor a stated count that tells it is given")
    counted = _count(record.params, d_ff)
    inferred = [] if "d_ff" in record.params else [f"d_ff={d_ff} by the stated count"]
    missing = [name for name in INPUT_SHAPE if name not in record.params]
    reference = [f"{name}={getattr(ArchitectureSpec, name)}" for name in missing]
    return Size(counted=counted, d_ff=d_ff, claim=_claim(record.study.budget, counted), assumed=(*inferred, *reference))


def _feed_forward(record: Record) -> int | None:
    """The feed-forward width: given, or the only usual one that the stated count fits."""
    if "d_ff" in record.params:
        return int(record.params["d_ff"])
    stated = record.stated_size
    if stated is None:
        return None
    candidates = [ratio * int(record.params["d_model"]) for ratio in FF_RATIOS]
    fitting = [d_ff for d_ff in candidates if abs(_count(record.params, d_ff) - stated) <= STATED_TOLERANCE * stated]
    return fitting[0] if len(fitting) == 1 else None


def _count(params: Mapping[str, Value], d_ff: int) -> int:
    # The number of heads has no part in the count, and some files do not give it.
    shape = {name: int(params[name]) for name in INPUT_SHAPE if name in params}
    d_model, n_layers = int(params["d_model"]), int(params["n_layers"])
    return parameter_count(ArchitectureSpec(d_model=d_model, n_layers=n_layers, n_heads=1, d_ff=d_ff, **shape))  # type: ignore[arg-type]


def _claim(budget: str | None, counted: int) -> str:
    try:
        return NO_CLAIM if budget is None else WITHIN if Budget.parse(budget).admits(counted) else OUTSIDE
    except InputError:
        return NO_CLAIM
