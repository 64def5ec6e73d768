"""Volatility estimated from open, high, low and close: several times as precise as from closes alone.

Every estimator takes bars and a window length in sessions and returns a daily volatility [days]. Features are its
logarithm, with `VOLATILITY_FLOOR` as the smallest volatility.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import talib

from research.features.feature import Bars, Feature, Series, family, feature
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


def _relative_atr(bars: Bars, length: int) -> Series:
    return talib.ATR(bars.high, bars.low, bars.close, timeperiod=length) / bars.close


def _log_family(
    name: str, formula: str, estimator: Callable[[Bars, int], Series], length: int, source: str, later: int = -1
) -> tuple[Feature, ...]:
    def compute(bars: Bars, length: int) -> Series:
        return log_volatility(estimator(bars, length))

    return family("range-volatility", name, formula, compute, (length,), later=later, source=source)


RANGE_FEATURES = (
    feature(
        "range-volatility",
        "log_range",
        "log log(H / L)",
        0,
        lambda bars: log_volatility(np.log(bars.high / bars.low)),
        "Alizadeh, Brandt & Diebold 2002",
    ),
    *_log_family("parkinson_{n}", "log sqrt(mean log(H / L)^2 / (4 log 2) over {n})", parkinson, 20, "Parkinson 1980"),
    *_log_family(
        "garman_klass_{n}",
        "log sqrt(mean [log(H / L)^2 / 2 - (2 log 2 - 1) log(C / O)^2] over {n})",
        garman_klass,
        20,
        "Garman & Klass 1980",
    ),
    *_log_family(
        "rogers_satchell_{n}",
        "log sqrt(mean [log(H / O) log(H / C) + log(L / O) log(L / C)] over {n})",
        rogers_satchell,
        20,
        "Rogers & Satchell 1991",
    ),
    *_log_family(
        "yang_zhang_{n}",
        "log sqrt(var overnight + k var intraday + (1 - k) Rogers-Satchell over {n})",
        yang_zhang,
        20,
        "Yang & Zhang 2000",
        later=0,
    ),
    *_log_family("atr_{n}", "log(ATR({n}) / C)", _relative_atr, 5, "Wilder 1978", later=0),
)
