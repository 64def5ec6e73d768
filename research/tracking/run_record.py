"""One stored run, the same from either reader."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from research.tracking import schema


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One stored run."""

    run_id: str
    name: str
    kind: str
    status: str
    experiment_id: str
    started: int
    """Start in milliseconds since 1970."""
    ended: int | None
    """End in milliseconds since 1970; None while the run is open."""
    params: dict[str, int | float | str | bool]
    metrics: dict[str, float]
    """Last value of each metric."""
    tags: dict[str, str]

    @property
    def outcome(self) -> schema.Outcome | None:
        """Outcome of the run; None while it is open."""
        return cast("schema.Outcome | None", self.tags.get(schema.OUTCOME))


def numbers(params: Mapping[str, str]) -> dict[str, int | float | str | bool]:
    """Return parameters as the values that MLflow stored as text."""
    return {name: number(text) for name, text in params.items()}


@lru_cache(maxsize=1 << 16)
def number(text: str) -> int | float | str | bool:
    """Return the value of a parameter's text."""
    if text in ("True", "False"):
        return text == "True"
    if "_" in text:
        # Python reads 1_000 as a number; the platform never writes one like this.
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def measured(value: float, is_nan: bool = False) -> float:
    """Return a metric as logged: MLflow's tables hold the largest float for infinity and a flag for NaN."""
    if is_nan or math.isnan(value):
        return math.nan
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value
