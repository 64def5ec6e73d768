"""Higher moments, autocorrelation and variance ratio of daily returns."""

from __future__ import annotations

from functools import partial

import numpy as np

from research.features.feature import Bars, Series, family
from research.features.rolling import (
    lagged,
    ratio,
    rolling_correlation,
    rolling_mean,
    rolling_moment,
    rolling_sum,
    rolling_variance,
)
from research.features.volatility import VOLATILITY_FLOOR, daily_returns

AGGREGATED = 5
"""Length of the longer return in the variance ratio, in sessions."""


def _skewness(bars: Bars, length: int) -> Series:
    returns = daily_returns(bars)
    variance = rolling_variance(returns, length)
    return ratio(rolling_moment(returns, length, 3), variance**1.5, floor=VOLATILITY_FLOOR**3, otherwise=0.0)


def _kurtosis(bars: Bars, length: int) -> Series:
    returns = daily_returns(bars)
    variance = rolling_variance(returns, length)
    return ratio(rolling_moment(returns, length, 4), variance**2, floor=VOLATILITY_FLOOR**4, otherwise=3.0) - 3


def _autocorrelation(bars: Bars, length: int) -> Series:
    returns = daily_returns(bars)
    return rolling_correlation(returns, lagged(returns, 1), length, floor=VOLATILITY_FLOOR)


def _absolute_autocorrelation(bars: Bars, length: int) -> Series:
    absolute = np.abs(daily_returns(bars))
    return rolling_correlation(absolute, lagged(absolute, 1), length, floor=VOLATILITY_FLOOR)


def _variance_ratio(bars: Bars, length: int) -> Series:
    """Return the variance ratio of overlapping returns in the window, with its own mean and small-sample correction."""
    returns = daily_returns(bars)
    rows = max(len(returns) - length + 1, 0)
    longer = rolling_sum(returns, AGGREGATED)
    mean = rolling_mean(returns, length)
    squares = np.zeros(rows)
    for offset in range(AGGREGATED - 1, length):
        squares += (longer[offset : offset + rows] - AGGREGATED * mean[length - 1 :]) ** 2
    degrees = AGGREGATED * (length - AGGREGATED + 1) * (1 - AGGREGATED / length)
    aggregated = np.full(len(returns), np.nan)
    aggregated[len(returns) - rows :] = squares / degrees
    daily = rolling_variance(returns, length) * length / (length - 1)
    return ratio(aggregated, daily, floor=VOLATILITY_FLOOR**2, otherwise=1.0) - 1


def _up_share(bars: Bars, length: int) -> Series:
    return rolling_mean((np.sign(daily_returns(bars)) + 1) / 2, length)


_family = partial(family, "moment")

MOMENT_FEATURES = (
    *_family("skewness_{n}", "mean (r - m)^3 / s^3 over {n}, 0 if flat", _skewness, (60,)),
    *_family("kurtosis_{n}", "mean (r - m)^4 / s^4 - 3 over {n}, 0 if flat", _kurtosis, (60,)),
    *_family("autocorrelation_{n}", "correlation of r with r[-1] over {n}, 0 if flat", _autocorrelation, (60,), later=1),
    *_family(
        "absolute_autocorrelation_{n}",
        "correlation of |r| with |r[-1]| over {n}, 0 if flat",
        _absolute_autocorrelation,
        (60,),
        later=1,
        source="Ding, Granger & Engle 1993",
    ),
    *_family(
        "variance_ratio_{n}",
        f"variance of {AGGREGATED}-day r / ({AGGREGATED} x variance of r) - 1 over {{n}}, 0 if flat",
        _variance_ratio,
        (60,),
        source="Lo & MacKinlay 1988",
    ),
    *_family("up_share_{n}", "share of days with r > 0 over {n}, unchanged days half", _up_share, (20,)),
)
