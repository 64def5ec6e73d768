"""Named, versioned feature sets: a catalogue of columns and the matrix they make from raw bars.

Every feature is causal: its value at day t does not change when later bars arrive. A property test holds
each one to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import numpy as np
import pandas as pd
import talib
from numpy.typing import NDArray

from research.features import indicators as ind
from research.spec import FeatureSpec, InputError, digest_bytes

Series = NDArray[np.float64]

VOLUME_MEAN_LENGTH = 60
VOLUME_FLOOR = 0.01
"""Smallest volume ratio before the logarithm: two Nasdaq sessions report zero volume."""


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Raw daily bars as float64 arrays, the only input of a feature."""

    days: pd.DatetimeIndex
    open: Series
    high: Series
    low: Series
    close: Series
    volume: Series

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Bars:
        """Arrays of a bars table, contiguous as TA-Lib wants them."""
        column = {
            name: np.ascontiguousarray(frame[name].to_numpy(np.float64)) for name in ("open", "high", "low", "close", "volume")
        }
        return cls(days=pd.DatetimeIndex(frame.index), **column)


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column."""

    name: str
    group: str
    """price, trend, oscillator, volume or volatility."""
    formula: str
    """What is computed, in words or symbols."""
    compute: Callable[[Bars], Series]
    """Value at every day from bars up to that day; NaN in the warm-up."""


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """A named list of columns."""

    name: str
    version: int
    features: tuple[Feature, ...]

    @property
    def spec(self) -> FeatureSpec:
        """Identity of the set."""
        return FeatureSpec(feature_set=self.name, version=self.version)

    @property
    def columns(self) -> list[str]:
        """Column names in order."""
        return [feature.name for feature in self.features]


@dataclass(frozen=True, kw_only=True)
class FeatureMatrix:
    """A feature set computed on one instrument."""

    spec: FeatureSpec
    days: pd.DatetimeIndex
    columns: list[str]
    values: Series
    """[days, features], NaN before `first_row`."""
    first_row: int
    """First day on which every feature exists."""
    digest: str
    """Digest of days, columns and values in single precision."""


def build(feature_set: FeatureSet, frame: pd.DataFrame) -> FeatureMatrix:
    """Compute every feature of a set on raw bars; after the warm-up every value must be finite."""
    bars = Bars.of(frame)
    values = np.column_stack([feature.compute(bars) for feature in feature_set.features])
    finite = np.isfinite(values)
    complete = finite.all(axis=1)
    first_row = int(complete.argmax()) if complete.any() else len(values)
    _require_finite(feature_set, bars.days, finite, first_row)
    digest = digest_bytes(
        bars.days.to_numpy().tobytes(), ",".join(feature_set.columns).encode(), values[first_row:].astype("<f4").tobytes()
    )
    return FeatureMatrix(
        spec=feature_set.spec, days=bars.days, columns=feature_set.columns, values=values, first_row=first_row, digest=digest
    )


def _require_finite(feature_set: FeatureSet, days: pd.DatetimeIndex, finite: NDArray[np.bool_], first_row: int) -> None:
    holes = np.argwhere(~finite[first_row:])
    if len(holes):
        row, column = holes[0]
        raise InputError(
            f"feature {feature_set.columns[column]} of {feature_set.name} is not finite on "
            f"{days[first_row + row]:%Y-%m-%d}; look at the bars of that day."
        )
    if first_row == len(finite):
        raise InputError(f"FEATURES={feature_set.name}: {len(days)} days are too few for its warm-up; use a longer history.")


def _feature(name: str, group: str, formula: str, compute: Callable[[Bars], Series]) -> Feature:
    return Feature(name=name, group=group, formula=formula, compute=compute)


def _price(name: str) -> Feature:
    return _feature(name, "price", name, attrgetter(name))


def _dema(length: int) -> Feature:
    return _feature(f"dema_{length}", "trend", f"DEMA(close, {length})", lambda bars: talib.DEMA(bars.close, timeperiod=length))


def _sma(length: int) -> Feature:
    return _feature(f"sma_{length}", "trend", f"SMA(close, {length})", lambda bars: talib.SMA(bars.close, timeperiod=length))


def _oscillator(name: str, formula: str, indicator: Callable[[Series], Series]) -> Feature:
    return _feature(name, "oscillator", formula.format("close"), lambda bars: indicator(bars.close))


def _weekly(name: str, formula: str, indicator: Callable[[Series], Series]) -> Feature:
    return _feature(
        f"{name}_weekly",
        "oscillator",
        formula.format("weekly close"),
        lambda bars: ind.weekly(bars.close, bars.days, indicator),
    )


_RSI = ("rsi_14", "RSI({}, 14)", partial(talib.RSI, timeperiod=14))
_STOCH_RSI = ("stoch_rsi", "%D of StochRSI({}, 14, 5, 3)", ind.stochastic_rsi)

RAW_FEATURES = (
    *(_price(name) for name in ("open", "high", "low", "close")),
    _feature("volume", "volume", "volume", attrgetter("volume")),
    *(_dema(length) for length in (9, 10, 20, 25, 90)),
    *(_sma(length) for length in (12, 50, 100, 200)),
    _oscillator(*_RSI),
    _weekly(*_RSI),
    _oscillator(*_STOCH_RSI),
    _weekly(*_STOCH_RSI),
    _feature("macd", "trend", "EMA(close, 12) - EMA(close, 26)", lambda bars: ind.macd_line(bars.close)),
    _feature("obv", "volume", "on-balance volume", lambda bars: talib.OBV(bars.close, bars.volume)),
    _feature(
        "adosc", "volume", "Chaikin oscillator (3, 10)", lambda bars: ind.adosc(bars.high, bars.low, bars.close, bars.volume)
    ),
    _feature("atr_14", "volatility", "ATR(14)", lambda bars: talib.ATR(bars.high, bars.low, bars.close, timeperiod=14)),
    _feature("adx_14", "oscillator", "ADX(14)", lambda bars: talib.ADX(bars.high, bars.low, bars.close, timeperiod=14)),
    _feature("percent_b", "volatility", "Bollinger %B(20, 2)", lambda bars: ind.percent_b(bars.close)),
    _feature("vwap_20", "price", "volume-weighted mean close, 20 days", lambda bars: ind.vwap(bars.close, bars.volume)),
)


def _log_to_close(values: Series, bars: Bars) -> Series:
    return np.log(values / bars.close)


def _over_volume(values: Series, bars: Bars, length: int, reduce: Callable[..., Series]) -> Series:
    traded = reduce(bars.volume, timeperiod=length)
    return np.divide(values, traded, out=np.full_like(values, np.nan), where=traded > 0)


def _log_return(values: Series, bars: Bars) -> Series:
    return np.concatenate([[np.nan], np.diff(np.log(bars.close))])


def _relative_volume(values: Series, bars: Bars) -> Series:
    return np.log(np.maximum(_over_volume(bars.volume, bars, VOLUME_MEAN_LENGTH, talib.SMA), VOLUME_FLOOR))


def _change_over_volume(values: Series, bars: Bars) -> Series:
    change = np.full_like(values, np.nan)
    change[20:] = values[20:] - values[:-20]
    return _over_volume(change, bars, 20, talib.SUM)


STATIONARY_FORMS: dict[str, tuple[str, Callable[[Series, Bars], Series]]] = {
    "close": ("log return of the close", _log_return),
    "volume": (f"log(volume / {VOLUME_MEAN_LENGTH}-day mean), at least log({VOLUME_FLOOR})", _relative_volume),
    "macd": ("MACD / close", lambda values, bars: values / bars.close),
    "obv": ("20-day change of OBV / 20-day volume", _change_over_volume),
    "adosc": ("ADOSC / 20-day mean volume", lambda values, bars: _over_volume(values, bars, 20, talib.SMA)),
    "percent_b": ("%B", lambda values, bars: values),
    **{
        name: (f"{name} / 100", lambda values, bars: values / 100)
        for name in ("rsi_14", "rsi_14_weekly", "stoch_rsi", "stoch_rsi_weekly", "adx_14")
    },
}
"""Column -> (formula, transformation of the raw column); every other column becomes log(x / close)."""


def _stationary(feature: Feature) -> Feature:
    formula, form = STATIONARY_FORMS.get(feature.name, (f"log({feature.name} / close)", _log_to_close))
    compute = feature.compute
    return Feature(name=feature.name, group=feature.group, formula=formula, compute=lambda bars: form(compute(bars), bars))


A25 = FeatureSet(name="a25", version=1, features=RAW_FEATURES)
A25S = FeatureSet(name="a25s", version=1, features=tuple(_stationary(feature) for feature in A25.features))

FEATURE_SETS = {feature_set.name: feature_set for feature_set in (A25, A25S)}


def feature_set_named(name: str) -> FeatureSet:
    """The set of that name; `InputError` lists the names there are."""
    if name not in FEATURE_SETS:
        raise InputError(f"FEATURES={name}: no such feature set; give {' or '.join(FEATURE_SETS)}.")
    return FEATURE_SETS[name]
