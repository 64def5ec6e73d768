"""Features, which are named columns computed from raw bars, and sets of features.

Every feature is causal: its value at day t does not change when later bars arrive or are revised. A property test checks
each feature. `research.features.catalogue.LEGEND` explains the letters of formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    """Raw daily bars as float64 arrays [days], the only input of a feature."""

    days: pd.DatetimeIndex
    open: Series
    high: Series
    low: Series
    close: Series
    volume: Series
    references: Mapping[Reference, Series] = field(default_factory=dict)
    """Closes of other instruments [days]: the last one known at each day's close (`research.features.reference_series`)."""

    @classmethod
    def of(cls, frame: pd.DataFrame, references: Mapping[Reference, Series] | None = None) -> Bars:
        """Return the arrays of a bars table, contiguous as TA-Lib requires."""
        column = {
            name: np.ascontiguousarray(frame[name].to_numpy(np.float64)) for name in ("open", "high", "low", "close", "volume")
        }
        return cls(days=pd.DatetimeIndex(frame.index), references=references or {}, **column)


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A feature column."""

    name: str
    group: Group
    formula: str
    """Formula in symbols or words, for the catalogue."""
    warm_up: int
    """Number of sessions without a value: row `warm_up`, counted from 0, is the first finite one.
    Weekly features count weeks of five sessions; a history that begins in mid-week has its first value earlier."""
    compute: Callable[[Bars], Series]
    """Function that returns the values [days], each from bars up to its day; NaN in the warm-up."""
    source: str = ""
    """Author and year of the publication."""
    needs: Reference | None = None
    """Other instrument that the column requires."""


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """A named and versioned list of features."""

    name: str
    version: int
    features: tuple[Feature, ...]
    index: str = ""
    """Instrument of the columns that need an index."""
    volatility_index: str = ""
    """Instrument of the columns that need implied volatility."""

    @property
    def spec(self) -> FeatureSpec:
        """Identity of the set in fingerprints."""
        return FeatureSpec(
            feature_set=self.name, version=self.version, index=self.index, volatility_index=self.volatility_index
        )

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return [feature.name for feature in self.features]

    @property
    def warm_up(self) -> int:
        """Number of sessions before every column has a value."""
        return max(feature.warm_up for feature in self.features)


def feature(
    group: Group,
    name: str,
    formula: str,
    warm_up: int,
    compute: Callable[[Bars], Series],
    source: str = "",
    needs: Reference | None = None,
) -> Feature:
    """Return a feature; the positional form of `Feature` for tables of definitions."""
    return Feature(name=name, group=group, formula=formula, warm_up=warm_up, compute=compute, source=source, needs=needs)


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
    """Return a definition at several lengths: `{n}` stands for the length; the warm-up is the length plus `later` sessions."""

    def at_length(length: int) -> Feature:
        return feature(
            group,
            name.format(n=length),
            formula.format(n=length),
            length + later,
            lambda bars: compute(bars, length),
            source,
            needs,
        )

    return tuple(at_length(length) for length in lengths)
