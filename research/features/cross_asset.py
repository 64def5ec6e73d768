"""Features from an index and a volatility index, whose closes `research.features.reference_series` joins."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from research.features.feature import Bars, Series, family, feature
from research.features.rolling import (
    change,
    ratio,
    rolling_correlation,
    rolling_covariance,
    rolling_mean,
    rolling_variance,
    share_not_above,
)
from research.features.volatility import VOLATILITY_FLOOR, daily_returns, log_volatility, root_mean_square

SESSIONS_PER_YEAR = 252
IMPLIED_LENGTH = 21
"""Number of sessions in the 30 calendar days to which a volatility index refers."""


def _index(bars: Bars) -> Series:
    return np.log(bars.references["index"])


def _implied(bars: Bars) -> Series:
    return np.log(bars.references["volatility_index"])


def _level_ratio(bars: Bars, length: int) -> Series:
    level = np.log(bars.close) - _index(bars)
    return level - rolling_mean(level, length)


def _index_return(bars: Bars, length: int) -> Series:
    return change(_index(bars), length)


def _beta(bars: Bars, length: int) -> Series:
    returns = _index_return(bars, 1)
    covariance = rolling_covariance(daily_returns(bars), returns, length)
    return ratio(covariance, rolling_variance(returns, length), floor=VOLATILITY_FLOOR**2, otherwise=0.0)


def _correlation(bars: Bars, length: int) -> Series:
    return rolling_correlation(daily_returns(bars), _index_return(bars, 1), length, floor=VOLATILITY_FLOOR)


def _relative_strength(bars: Bars) -> Series:
    return change(np.log(bars.close), 20) - _beta(bars, 60) * _index_return(bars, 20)


def _implied_score(bars: Bars, length: int) -> Series:
    level = _implied(bars)
    distance, deviation = level - rolling_mean(level, length), np.sqrt(rolling_variance(level, length))
    return ratio(distance, deviation, floor=VOLATILITY_FLOOR, otherwise=0.0)


def _implied_trend(bars: Bars, length: int) -> Series:
    level = _implied(bars)
    return level - rolling_mean(level, length)


def _implied_over_realised(bars: Bars) -> Series:
    """Return log implied minus log realised volatility; 15.9 points of the index are a daily volatility of 1%."""
    realised = log_volatility(root_mean_square(daily_returns(bars), IMPLIED_LENGTH))
    percent_per_year = math.log(100 * math.sqrt(SESSIONS_PER_YEAR))
    return _implied(bars) - percent_per_year - realised


_index_family = partial(family, "cross-asset", needs="index")
_implied_family = partial(family, "cross-asset", needs="volatility_index")

CROSS_ASSET_FEATURES = (
    *_index_family("index_level_{n}", "log(C / I) minus its mean over {n}", _level_ratio, (60,), later=-1),
    *_index_family("index_return_{n}", "log(I / I[-{n}])", _index_return, (1, 5, 20)),
    *_index_family(
        "index_beta_{n}",
        "covariance of r and the index's r / variance of the index's r over {n}, 0 if flat",
        _beta,
        (60,),
        source="Sharpe 1963",
    ),
    *_index_family("index_correlation_{n}", "correlation of r with the index's r over {n}, 0 if flat", _correlation, (60,)),
    feature(
        "cross-asset",
        "relative_strength_20",
        "log(C / C[-20]) - index_beta_60 x log(I / I[-20])",
        60,
        _relative_strength,
        "Blitz, Huij & Martens 2011",
        "index",
    ),
    feature("cross-asset", "implied_volatility", "log X", 1, _implied, "Whaley 2000", "volatility_index"),
    *_implied_family(
        "implied_change_{n}", "log(X / X[-{n}])", lambda bars, length: change(_implied(bars), length), (1, 5), later=1
    ),
    *_implied_family("implied_score_{n}", "(log X - mean) / deviation over {n}, 0 if flat", _implied_score, (60,)),
    *_implied_family(
        "implied_percentile_{n}",
        "share of the last {n} X that are not above X",
        lambda bars, length: share_not_above(_implied(bars), length),
        (252,),
    ),
    *_implied_family("implied_trend_{n}", "log X minus its mean over {n}", _implied_trend, (20,)),
    feature(
        "cross-asset",
        "implied_over_realised",
        f"log(X / 100 / sqrt({SESSIONS_PER_YEAR}) / {IMPLIED_LENGTH}-day realised volatility)",
        IMPLIED_LENGTH,
        _implied_over_realised,
        "Bollerslev, Tauchen & Zhou 2009",
        "volatility_index",
    ),
)
