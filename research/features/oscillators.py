"""Oscillators with values of order 1, and a neutral value for windows without a range."""

from __future__ import annotations

from functools import partial

import numpy as np
import talib

from research.features.feature import Bars, Series, family, feature
from research.features.rolling import change, lagged, ratio, rolling_mean, rolling_sum, sessions_since_highest
from research.features.volatility import VOLATILITY_FLOOR

PRICE_NOISE = 1e-12
"""Relative move of a typical price below which it is rounding."""


def typical_price(bars: Bars) -> Series:
    """Return the mean of high, low and close."""
    return (bars.high + bars.low + bars.close) / 3


def _cci(bars: Bars, length: int) -> Series:
    price = typical_price(bars)
    mean = rolling_mean(price, length)
    deviation = np.zeros_like(mean)
    for lag in range(length):
        deviation += np.abs((lagged(price, lag) if lag else price) - mean)
    return ratio((price - mean) / 0.015, deviation / length, floor=VOLATILITY_FLOOR * mean, otherwise=0.0) / 100


def _williams(bars: Bars, length: int) -> Series:
    highest, lowest = talib.MAX(bars.high, timeperiod=length), talib.MIN(bars.low, timeperiod=length)
    return ratio(bars.close - highest, highest - lowest, floor=0.0, otherwise=-0.5)


def _money_flow(bars: Bars, length: int) -> Series:
    price = typical_price(bars)
    move = change(np.log(price), 1)
    flow = price * bars.volume
    flow = np.where(np.isnan(move), np.nan, flow)
    up = rolling_sum(np.where(move > PRICE_NOISE, flow, 0.0 * flow), length)
    moved = rolling_sum(np.where(np.abs(move) > PRICE_NOISE, flow, 0.0 * flow), length)
    return ratio(up, moved, floor=0.0, otherwise=0.5)


def _ultimate(bars: Bars) -> Series:
    before = lagged(bars.close, 1)
    # NumPy's minimum and maximum propagate the NaN of the first day.
    low, high = np.minimum(bars.low, before), np.maximum(bars.high, before)

    def pressure(length: int) -> Series:
        return ratio(rolling_sum(bars.close - low, length), rolling_sum(high - low, length), floor=0.0, otherwise=0.5)

    return (4 * pressure(7) + 2 * pressure(14) + pressure(28)) / 7


def _aroon(bars: Bars, length: int) -> Series:
    since_high = sessions_since_highest(bars.high, length + 1)
    since_low = sessions_since_highest(-bars.low, length + 1)
    return (since_low - since_high) / length


def _ppo_histogram(bars: Bars) -> Series:
    oscillator = talib.EMA(bars.close, timeperiod=12) / talib.EMA(bars.close, timeperiod=26) - 1
    return oscillator - talib.EMA(oscillator, timeperiod=9)


_family = partial(family, "oscillator")
_feature = partial(feature, "oscillator")

OSCILLATOR_FEATURES = (
    *_family(
        "cci_{n}",
        "(P - mean P) / (0.015 mean deviation of P) / 100 over {n}, P = (H + L + C) / 3, 0 if flat",
        _cci,
        (20,),
        later=-1,
        source="Lambert 1980",
    ),
    *_family(
        "williams_r_{n}",
        "(C - max H) / (max H - min L) over {n}, -0.5 if flat",
        _williams,
        (14,),
        later=-1,
        source="Williams 1973",
    ),
    *_family(
        "mfi_{n}",
        "share of money flow P V on days with rising P over {n}, 0.5 if none",
        _money_flow,
        (14,),
        source="Quong & Soudack 1989",
    ),
    _feature(
        "ultimate",
        "buying pressure / true range over 7, 14, 28 days, weights 4 : 2 : 1, 0.5 if flat",
        28,
        _ultimate,
        "Williams 1985",
    ),
    *_family(
        "aroon_{n}", "(sessions since lowest L - since highest H) / {n} over {n} + 1 days", _aroon, (25,), source="Chande 1995"
    ),
    _feature(
        "trix_15",
        "1-day percent change of the triple EMA(C, 15)",
        43,
        lambda bars: talib.TRIX(bars.close, timeperiod=15),
        "Hutson 1983",
    ),
    _feature(
        "ppo_histogram", "PPO - EMA(PPO, 9), PPO = EMA(C, 12) / EMA(C, 26) - 1", 33, _ppo_histogram, "Appel 1979, Aspray 1986"
    ),
)
