"""Volatility estimated from open, high, low and close: several times as precise as from closes alone.

Every estimator takes bars and a window length in sessions and returns a daily volatility [days]. Features are its
logarithm, with `VOLATILITY_FLOOR` as the smallest volatility.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import talib

from research.features.feature import Bars, Series, family, feature
from research.features.returns import overnight_return
from research.features.rolling import rolling_mean, rolling_variance
from research.features.volatility import log_volatility


def parkinson(bars: Bars, length: int) -> Series:
    """Return the volatility from high and low (Parkinson 1980); unbiased without drift and gaps."""
    return np.sqrt(rolling_mean(np.log(bars.high / bars.low) ** 2, length) / (4 * math.log(2)))


def garman_klass(bars: Bars, length: int) -> Series:
    """Return the volatility from all four prices (Garman & Klass 1980); unbiased without drift and gaps."""
    daily = 0.5 * np.log(bars.high / bars.low) ** 2 - (2 * math.log(2) - 1) * np.log(bars.close / bars.open) ** 2
    return np.sqrt(rolling_mean(np.maximum(daily, 0.0), length))


def _rogers_satchell_variance(bars: Bars) -> Series:
    high, low, close = (np.log(price / bars.open) for price in (bars.high, bars.low, bars.close))
    variance: Series = high * (high - close) + low * (low - close)
    return variance


def rogers_satchell(bars: Bars, length: int) -> Series:
    """Return the volatility of Rogers & Satchell (1991): unbiased with drift, but without gaps."""
    return np.sqrt(rolling_mean(np.maximum(_rogers_satchell_variance(bars), 0.0), length))


def yang_zhang(bars: Bars, length: int) -> Series:
    """Return the volatility of Yang & Zhang (2000): unbiased with drift and opening gaps."""
    to_sample = length / (length - 1)
    weight = 0.34 / (1.34 + (length + 1) / (length - 1))
    overnight = to_sample * rolling_variance(overnight_return(bars), length)
    open_to_close = to_sample * rolling_variance(np.log(bars.close / bars.open), length)
    inside = rolling_mean(np.maximum(_rogers_satchell_variance(bars), 0.0), length)
    return np.sqrt(overnight + weight * open_to_close + (1 - weight) * inside)


_family = partial(family, "range-volatility")

RANGE_FEATURES = (
    feature(
        "range-volatility",
        "log_range",
        "log log(H / L)",
        0,
        lambda bars: log_volatility(np.log(bars.high / bars.low)),
        "Alizadeh, Brandt & Diebold 2002",
    ),
    *_family(
        "parkinson_{n}",
        "log sqrt(mean log(H / L)^2 / (4 log 2) over {n})",
        lambda bars, length: log_volatility(parkinson(bars, length)),
        (20,),
        later=-1,
        source="Parkinson 1980",
    ),
    *_family(
        "garman_klass_{n}",
        "log sqrt(mean [log(H / L)^2 / 2 - (2 log 2 - 1) log(C / O)^2] over {n})",
        lambda bars, length: log_volatility(garman_klass(bars, length)),
        (20,),
        later=-1,
        source="Garman & Klass 1980",
    ),
    *_family(
        "rogers_satchell_{n}",
        "log sqrt(mean [log(H / O) log(H / C) + log(L / O) log(L / C)] over {n})",
        lambda bars, length: log_volatility(rogers_satchell(bars, length)),
        (20,),
        later=-1,
        source="Rogers & Satchell 1991",
    ),
    *_family(
        "yang_zhang_{n}",
        "log sqrt(var overnight + k var intraday + (1 - k) Rogers-Satchell over {n})",
        lambda bars, length: log_volatility(yang_zhang(bars, length)),
        (20,),
        source="Yang & Zhang 2000",
    ),
    *_family(
        "atr_{n}",
        "log(ATR({n}) / C)",
        lambda bars, length: log_volatility(talib.ATR(bars.high, bars.low, bars.close, timeperiod=length) / bars.close),
        (5,),
        source="Wilder 1978",
    ),
)
