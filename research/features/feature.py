"""What a feature is: a named, typed column of raw bars, and a set of them.

Every feature is causal: its value at day t does not change when later bars arrive or are revised. A property
test holds each one to that. `research.features.catalogue.LEGEND` explains the letters of formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.spec import FeatureSpec

Series = NDArray[np.float64]
Reference = Literal["index", "volatility_index"]
Group = Literal[
    "price",
    "return",
    "trend",
    "oscillator",
    "volume",
    "volatility",
    "range-volatility",
    "vol-of-vol",
    "drawdown",
    "moment",
    "calendar",
    "cross-asset",
]


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Raw daily bars as float64 arrays, the only input of a feature."""

    days: pd.DatetimeIndex
    open: Series
    high: Series
    low: Series
    close: Series
    volume: Series
    references: Mapping[Reference, Series] = field(default_factory=dict)
    """Closes of other instruments, on each day the last one known at its close (`research.features.reference_series`)."""

    @classmethod
    def of(cls, frame: pd.DataFrame, references: Mapping[Reference, Series] | None = None) -> Bars:
        """Arrays of a bars table, contiguous as TA-Lib wants them."""
        column = {
            name: np.ascontiguousarray(frame[name].to_numpy(np.float64)) for name in ("open", "high", "low", "close", "volume")
        }
        return cls(days=pd.DatetimeIndex(frame.index), references=references or {}, **column)


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column."""

    name: str
    group: Group
    formula: str
    """What is computed, in symbols or words."""
    warm_up: int
    """Sessions before the first one that has a value: row `warm_up`, counted from 0, is the first finite one.
    Weekly features count weeks of five sessions; a history that begins in mid-week has its first value earlier."""
    compute: Callable[[Bars], Series]
    """Value at every day from bars up to that day; NaN in the warm-up."""
    source: str = ""
    """Who proposed it, and when."""
    needs: Reference | None = None
    """Other instrument without which the column does not exist."""


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """A named list of columns."""

    name: str
    version: int
    features: tuple[Feature, ...]
    index: str = ""
    """Instrument that the columns which need an index compare with."""
    volatility_index: str = ""
    """Instrument that the columns which need implied volatility take it from."""

    @property
    def spec(self) -> FeatureSpec:
        """Identity of the set."""
        return FeatureSpec(
            feature_set=self.name, version=self.version, index=self.index, volatility_index=self.volatility_index
        )

    @property
    def columns(self) -> list[str]:
        """Column names in order."""
        return [feature.name for feature in self.features]

    @property
    def warm_up(self) -> int:
        """Sessions before the first one on which every column has a value."""
        return max(feature.warm_up for feature in self.features)


def family(
    group: Group,
    name: str,
    formula: str,
    compute: Callable[[Bars, int], Series],
    lengths: tuple[int, ...],
    *,
    later: int = 0,
    source: str = "",
    needs: Reference | None = None,
) -> tuple[Feature, ...]:
    """One definition at several lengths; `{n}` is the length, and the warm-up is `later` sessions longer than it."""
    return tuple(
        Feature(
            name=name.format(n=length),
            group=group,
            formula=formula.format(n=length),
            warm_up=length + later,
            compute=partial(_at_length, compute, length),
            source=source,
            needs=needs,
        )
        for length in lengths
    )


def _at_length(compute: Callable[[Bars, int], Series], length: int, bars: Bars) -> Series:
    return compute(bars, length)
