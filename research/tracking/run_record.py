"""One run as it stands in the store, whichever way it was read."""

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
    """One run as it stands in the store."""

    run_id: str
    name: str
    kind: str
    status: str
    experiment_id: str
    started: int
    """Milliseconds since 1970."""
    ended: int | None
    """Milliseconds since 1970; None while the run is open."""
    params: dict[str, int | float | str | bool]
    metrics: dict[str, float]
    """Last value of each."""
    tags: dict[str, str]

    @property
    def outcome(self) -> schema.Outcome | None:
        """None while the run is open."""
        found = self.tags.get(schema.OUTCOME)
        return cast("schema.Outcome | None", found)


def numbers(params: Mapping[str, str]) -> dict[str, int | float | str | bool]:
    """Parameters as they were before MLflow made text of them."""
    return {name: number(text) for name, text in params.items()}


@lru_cache(maxsize=1 << 16)
def number(text: str) -> int | float | str | bool:
    """The value that a parameter's text stands for."""
    if text in ("True", "False"):
        return text == "True"
    if "_" in text:
        # Python reads 1_000 as a number; we never write one so.
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def measured(value: float, is_nan: bool = False) -> float:
    """A metric as it was logged: MLflow's tables hold the largest float for infinity and a flag for NaN."""
    if is_nan or math.isnan(value):
        return math.nan
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value
