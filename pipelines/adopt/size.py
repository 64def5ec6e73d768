"""Parameter counts by formula, because a legacy budget label differs from the number of trained parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.adopt.record import Record, Value
from research.errors import InputError
from research.models.accounting import parameter_count
from research.models.budget import TOLERANCE, Budget
from research.spec import ArchitectureSpec

FF_RATIOS = (2, 4)
"""Feed-forward widths in the grids of the earlier study, as multiples of the model width."""
INPUT_SHAPE = ("context_length", "patch_length", "patch_stride", "n_features")
STATED_TOLERANCE = 0.05
"""Relative tolerance for inferring the feed-forward width from a stated count."""
WITHIN, OUTSIDE, UNCOUNTED, NO_CLAIM = f"within {TOLERANCE:.0%}", f"outside {TOLERANCE:.0%}", "not countable", "no claim"


@dataclass(frozen=True, kw_only=True)
class Size:
    """A counted size and its derivation."""

    counted: int | None
    """Parameter count by formula; None if the file does not give the shape."""
    d_ff: int | None
    claim: str
    """Agreement of the budget label with the count."""
    assumed: tuple[str, ...] = ()
    """Settings missing in the file, with the assumed values."""
    why: str = ""
    """Reason for a missing count."""


def size_of(record: Record) -> Size:
    """Count the parameters of a record from its shape; raise `InputError` if the shape is impossible."""
    if not {"d_model", "n_layers"} <= record.params.keys():
        return Size(counted=None, d_ff=None, claim=UNCOUNTED, why="the shape is not given")
    d_ff = _feed_forward(record)
    if d_ff is None:
        return Size(counted=None, d_ff=None, claim=UNCOUNTED, why="neither d_ff nor a stated count that implies it is given")
    counted = _count(record.params, d_ff)
    inferred = [] if "d_ff" in record.params else [f"d_ff={d_ff} by the stated count"]
    missing = [name for name in INPUT_SHAPE if name not in record.params]
    reference = [f"{name}={getattr(ArchitectureSpec, name)}" for name in missing]
    return Size(counted=counted, d_ff=d_ff, claim=_claim(record.study.budget, counted), assumed=(*inferred, *reference))


def _feed_forward(record: Record) -> int | None:
    """Return the given feed-forward width, or the only usual one that fits the stated count."""
    if "d_ff" in record.params:
        return int(record.params["d_ff"])
    stated = record.stated_size
    if stated is None:
        return None
    candidates = [ratio * int(record.params["d_model"]) for ratio in FF_RATIOS]
    fitting = [d_ff for d_ff in candidates if abs(_count(record.params, d_ff) - stated) <= STATED_TOLERANCE * stated]
    return fitting[0] if len(fitting) == 1 else None


def _count(params: Mapping[str, Value], d_ff: int) -> int:
    # The count does not depend on the number of heads, and some files do not give it.
    shape = {name: int(params[name]) for name in INPUT_SHAPE if name in params}
    d_model, n_layers = int(params["d_model"]), int(params["n_layers"])
    return parameter_count(ArchitectureSpec(d_model=d_model, n_layers=n_layers, n_heads=1, d_ff=d_ff, **shape))  # type: ignore[arg-type]


def _claim(budget: str | None, counted: int) -> str:
    try:
        return NO_CLAIM if budget is None else WITHIN if Budget.parse(budget).admits(counted) else OUTSIDE
    except InputError:
        return NO_CLAIM
