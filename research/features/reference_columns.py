"""The 25 columns of the reference set: raw (a25), stationary (a25s), and bounded for the wider sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter

import numpy as np
import talib

from research.features import indicators
from research.features.feature import Bars, Feature, Series, family, feature

VOLUME_MEAN_LENGTH = 60
VOLUME_FLOOR = 0.01
"""Smallest volume ratio before the logarithm: two Nasdaq sessions report zero volume."""
BOUND = 12.0
"""Largest absolute value of a reference column in the wider sets; on real bars it stays below 7."""
WEEK = 5
"""Sessions in a week."""

Form = Callable[[Series, Bars], Series]


def _oscillators(name: str, formula: str, warm_up: int, indicator: Callable[[Series], Series], source: str) -> list[Feature]:
    """Return an oscillator of daily closes and the same oscillator of weekly closes."""
    return [
        feature("oscillator", name, formula.format("close"), warm_up, lambda bars: indicator(bars.close), source),
        feature(
            "oscillator",
            f"{name}_weekly",
            formula.format("weekly close"),
            (warm_up + 1) * WEEK,
            lambda bars: indicators.weekly(bars.close, bars.days, indicator),
            source,
        ),
    ]


RAW_FEATURES = (
    *(feature("price", name, name, 0, attrgetter(name)) for name in ("open", "high", "low", "close")),
    feature("volume", "volume", "volume", 0, attrgetter("volume")),
    *(
        feature(
            "trend",
            f"dema_{length}",
            f"DEMA(close, {length})",
            2 * (length - 1),
            partial(lambda bars, length: talib.DEMA(bars.close, timeperiod=length), length=length),
            "Mulloy 1994",
        )
        for length in (9, 10, 20, 25, 90)
    ),
    *family(
        "trend",
        "sma_{n}",
        "SMA(close, {n})",
        lambda bars, length: talib.SMA(bars.close, timeperiod=length),
        (12, 50, 100, 200),
        later=-1,
    ),
    *_oscillators("rsi_14", "RSI({}, 14)", 14, partial(talib.RSI, timeperiod=14), "Wilder 1978"),
    *_oscillators("stoch_rsi", "%D of StochRSI({}, 14, 5, 3)", 20, indicators.stochastic_rsi, "Chande & Kroll 1994"),
    feature(
        "trend", "macd", "EMA(close, 12) - EMA(close, 26)", 33, lambda bars: indicators.macd_line(bars.close), "Appel 1979"
    ),
    feature("volume", "obv", "on-balance volume", 0, lambda bars: talib.OBV(bars.close, bars.volume), "Granville 1963"),
    feature(
        "volume",
        "adosc",
        "Chaikin oscillator (3, 10)",
        9,
        lambda bars: indicators.adosc(bars.high, bars.low, bars.close, bars.volume),
        "Chaikin",
    ),
    feature(
        "range-volatility",
        "atr_14",
        "ATR(14)",
        14,
        lambda bars: talib.ATR(bars.high, bars.low, bars.close, timeperiod=14),
        "Wilder 1978",
    ),
    feature(
        "oscillator",
        "adx_14",
        "ADX(14)",
        27,
        lambda bars: talib.ADX(bars.high, bars.low, bars.close, timeperiod=14),
        "Wilder 1978",
    ),
    feature(
        "oscillator", "percent_b", "Bollinger %B(20, 2)", 19, lambda bars: indicators.percent_b(bars.close), "Bollinger 1983"
    ),
    feature(
        "price", "vwap_20", "volume-weighted mean close, 20 days", 19, lambda bars: indicators.vwap(bars.close, bars.volume)
    ),
)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Conversion of a raw column to a stationary one without units."""

    formula: str
    convert: Form
    """Function of the raw column [days] and the bars."""
    warm_up: int = 0
    """Number of sessions that the conversion needs."""


def _over_volume(values: Series, bars: Bars, length: int, reduce: Callable[..., Series]) -> Series:
    traded = reduce(bars.volume, timeperiod=length)
    return np.divide(values, traded, out=np.full_like(values, np.nan), where=traded > 0)


def _relative_volume(values: Series, bars: Bars) -> Series:
    return np.log(np.maximum(_over_volume(bars.volume, bars, VOLUME_MEAN_LENGTH, talib.SMA), VOLUME_FLOOR))


def _change_over_volume(values: Series, bars: Bars) -> Series:
    change = np.full_like(values, np.nan)
    change[20:] = values[20:] - values[:-20]
    return _over_volume(change, bars, 20, talib.SUM)


CONVERSIONS = {
    "close": Conversion(
        formula="log return of the close",
        convert=lambda values, bars: np.concatenate([[np.nan], np.diff(np.log(bars.close))]),
        warm_up=1,
    ),
    "volume": Conversion(
        formula=f"log(volume / {VOLUME_MEAN_LENGTH}-day mean), at least log({VOLUME_FLOOR})",
        convert=_relative_volume,
        warm_up=VOLUME_MEAN_LENGTH - 1,
    ),
    "macd": Conversion(formula="MACD / close", convert=lambda values, bars: values / bars.close),
    "obv": Conversion(formula="20-day change of OBV / 20-day volume", convert=_change_over_volume, warm_up=20),
    "adosc": Conversion(
        formula="ADOSC / 20-day mean volume", convert=lambda values, bars: _over_volume(values, bars, 20, talib.SMA), warm_up=19
    ),
    "percent_b": Conversion(formula="Bollinger %B(20, 2)", convert=lambda values, bars: values),
    **{
        name: Conversion(formula=f"{name} / 100", convert=lambda values, bars: values / 100)
        for name in ("rsi_14", "rsi_14_weekly", "stoch_rsi", "stoch_rsi_weekly", "adx_14")
    },
}
"""Conversion by name of a raw column; every other column becomes log(x / close)."""


def _stationary(feature: Feature) -> Feature:
    to_close = Conversion(formula=f"log({feature.name} / close)", convert=lambda values, bars: np.log(values / bars.close))
    conversion = CONVERSIONS.get(feature.name, to_close)
    compute = feature.compute
    return replace(
        feature,
        formula=conversion.formula,
        warm_up=max(feature.warm_up, conversion.warm_up),
        compute=lambda bars: conversion.convert(compute(bars), bars),
    )


def _bounded(feature: Feature) -> Feature:
    """Return the column within ±`BOUND`, and 0 on bars without trade or movement, so that it is finite on any bars."""

    def compute(bars: Bars) -> Series:
        with np.errstate(all="ignore"):
            values = feature.compute(bars)
        warm = np.arange(len(values)) >= feature.warm_up
        return np.where(warm & np.isnan(values), 0.0, np.clip(values, -BOUND, BOUND))

    return replace(feature, compute=compute)


STATIONARY_FEATURES = tuple(_stationary(feature) for feature in RAW_FEATURES)
BOUNDED_FEATURES = tuple(_bounded(feature) for feature in STATIONARY_FEATURES)
