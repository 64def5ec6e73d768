"""The 25 columns of the reference set: raw (a25), stationary (a25s), and bounded for the wider tiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter

import numpy as np
import talib

from research.features import indicators as ind
from research.features.feature import Bars, Feature, Group, Series

VOLUME_MEAN_LENGTH = 60
VOLUME_FLOOR = 0.01
"""Smallest volume ratio before the logarithm: two Nasdaq sessions report zero volume."""
BOUND = 12.0
"""Largest size of a reference column in the wider tiers; real bars stay below 7."""
WEEK = 5

Form = Callable[[Series, Bars], Series]


def _raw(name: str, group: Group, formula: str, warm_up: int, compute: Callable[[Bars], Series], source: str = "") -> Feature:
    return Feature(name=name, group=group, formula=formula, warm_up=warm_up, compute=compute, source=source)


def _price(name: str) -> Feature:
    return _raw(name, "price", name, 0, attrgetter(name))


def _dema(length: int) -> Feature:
    return _raw(
        f"dema_{length}",
        "trend",
        f"DEMA(close, {length})",
        2 * (length - 1),
        lambda bars: talib.DEMA(bars.close, timeperiod=length),
        "Mulloy 1994",
    )


def _sma(length: int) -> Feature:
    return _raw(
        f"sma_{length}", "trend", f"SMA(close, {length})", length - 1, lambda bars: talib.SMA(bars.close, timeperiod=length)
    )


def _oscillator(name: str, formula: str, warm_up: int, indicator: Callable[[Series], Series], source: str) -> Feature:
    return _raw(name, "oscillator", formula.format("close"), warm_up, lambda bars: indicator(bars.close), source)


def _weekly(name: str, formula: str, warm_up: int, indicator: Callable[[Series], Series], source: str) -> Feature:
    return _raw(
        f"{name}_weekly",
        "oscillator",
        formula.format("weekly close"),
        (warm_up + 1) * WEEK,
        lambda bars: ind.weekly(bars.close, bars.days, indicator),
        source,
    )


_RSI = ("rsi_14", "RSI({}, 14)", 14, partial(talib.RSI, timeperiod=14), "Wilder 1978")
_STOCH_RSI = ("stoch_rsi", "%D of StochRSI({}, 14, 5, 3)", 20, ind.stochastic_rsi, "Chande & Kroll 1994")

RAW_FEATURES = (
    *(_price(name) for name in ("open", "high", "low", "close")),
    _raw("volume", "volume", "volume", 0, attrgetter("volume")),
    *(_dema(length) for length in (9, 10, 20, 25, 90)),
    *(_sma(length) for length in (12, 50, 100, 200)),
    _oscillator(*_RSI),
    _weekly(*_RSI),
    _oscillator(*_STOCH_RSI),
    _weekly(*_STOCH_RSI),
    _raw("macd", "trend", "EMA(close, 12) - EMA(close, 26)", 33, lambda bars: ind.macd_line(bars.close), "Appel 1979"),
    _raw("obv", "volume", "on-balance volume", 0, lambda bars: talib.OBV(bars.close, bars.volume), "Granville 1963"),
    _raw(
        "adosc",
        "volume",
        "Chaikin oscillator (3, 10)",
        9,
        lambda bars: ind.adosc(bars.high, bars.low, bars.close, bars.volume),
        "Chaikin",
    ),
    _raw(
        "atr_14",
        "range-volatility",
        "ATR(14)",
        14,
        lambda bars: talib.ATR(bars.high, bars.low, bars.close, timeperiod=14),
        "Wilder 1978",
    ),
    _raw(
        "adx_14",
        "oscillator",
        "ADX(14)",
        27,
        lambda bars: talib.ADX(bars.high, bars.low, bars.close, timeperiod=14),
        "Wilder 1978",
    ),
    _raw("percent_b", "oscillator", "Bollinger %B(20, 2)", 19, lambda bars: ind.percent_b(bars.close), "Bollinger 1983"),
    _raw("vwap_20", "price", "volume-weighted mean close, 20 days", 19, lambda bars: ind.vwap(bars.close, bars.volume)),
)


@dataclass(frozen=True, kw_only=True)
class Stationary:
    """How a raw column loses its units."""

    formula: str
    form: Form
    """From the raw column and the bars."""
    warm_up: int = 0
    """Sessions that the form itself needs."""


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


STATIONARY_FORMS = {
    "close": Stationary(formula="log return of the close", form=_log_return, warm_up=1),
    "volume": Stationary(
        formula=f"log(volume / {VOLUME_MEAN_LENGTH}-day mean), at least log({VOLUME_FLOOR})",
        form=_relative_volume,
        warm_up=VOLUME_MEAN_LENGTH - 1,
    ),
    "macd": Stationary(formula="MACD / close", form=lambda values, bars: values / bars.close),
    "obv": Stationary(formula="20-day change of OBV / 20-day volume", form=_change_over_volume, warm_up=20),
    "adosc": Stationary(
        formula="ADOSC / 20-day mean volume", form=lambda values, bars: _over_volume(values, bars, 20, talib.SMA), warm_up=19
    ),
    "percent_b": Stationary(formula="Bollinger %B(20, 2)", form=lambda values, bars: values),
    **{
        name: Stationary(formula=f"{name} / 100", form=lambda values, bars: values / 100)
        for name in ("rsi_14", "rsi_14_weekly", "stoch_rsi", "stoch_rsi_weekly", "adx_14")
    },
}
"""Form of a raw column; every other column becomes log(x / close)."""


def _stationary(feature: Feature) -> Feature:
    to_close = Stationary(formula=f"log({feature.name} / close)", form=_log_to_close)
    kind = STATIONARY_FORMS.get(feature.name, to_close)
    compute = feature.compute
    return replace(
        feature,
        formula=kind.formula,
        warm_up=max(feature.warm_up, kind.warm_up),
        compute=lambda bars: kind.form(compute(bars), bars),
    )


def _bounded(feature: Feature) -> Feature:
    """The same column, finite on any bars: within ±`BOUND`, and 0 where nothing was traded or nothing moved."""

    def compute(bars: Bars) -> Series:
        with np.errstate(all="ignore"):
            values = feature.compute(bars)
        known = np.arange(len(values)) >= feature.warm_up
        return np.where(known & np.isnan(values), 0.0, np.clip(values, -BOUND, BOUND))

    return replace(feature, compute=compute)


STATIONARY_FEATURES = tuple(_stationary(feature) for feature in RAW_FEATURES)
BOUNDED_FEATURES = tuple(_bounded(feature) for feature in STATIONARY_FEATURES)
