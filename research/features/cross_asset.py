"""What an index and a volatility index say about an instrument. `research.features.reference_series` joins their closes."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from research.features.feature import Bars, Feature, Series, family
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
"""Sessions in the 30 calendar days that an implied volatility index looks ahead."""


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


def _implied_change(bars: Bars, length: int) -> Series:
    return change(_implied(bars), length)


def _implied_score(bars: Bars, length: int) -> Series:
    level = _implied(bars)
    away, usual = level - rolling_mean(level, length), np.sqrt(rolling_variance(level, length))
    return ratio(away, usual, floor=VOLATILITY_FLOOR, otherwise=0.0)


def _implied_percentile(bars: Bars, length: int) -> Series:
    return share_not_above(_implied(bars), length)


def _implied_trend(bars: Bars, length: int) -> Series:
    level = _implied(bars)
    return level - rolling_mean(level, length)


def _implied_over_realised(bars: Bars) -> Series:
    """A daily volatility of 1% is told by 15.9 points of a volatility index."""
    realised = log_volatility(root_mean_square(daily_returns(bars), IMPLIED_LENGTH))
    percent_per_year = math.log(100 * math.sqrt(SESSIONS_PER_YEAR))
    return _implied(bars) - percent_per_year - realised


_of_index = partial(family, "cross-asset", needs="index")
_of_implied = partial(family, "cross-asset", needs="volatility_index")

CROSS_ASSET_FEATURES = (
    *_of_index("index_level_{n}", "log(C / I) minus its mean over {n}", _level_ratio, (60,), later=-1),
    *_of_index("index_return_{n}", "log(I / I[-{n}])", _index_return, (1, 5, 20)),
    *_of_index(
        "index_beta_{n}",
        "covariance of r and the index's r / variance of the index's r over {n}, 0 if flat",
        _beta,
        (60,),
        source="Sharpe 1963",
    ),
    *_of_index("index_correlation_{n}", "correlation of r with the index's r over {n}, 0 if flat", _correlation, (60,)),
    Feature(
        name="relative_strength_20",
        group="cross-asset",
        formula="log(C / C[-20]) - index_beta_60 x log(I / I[-20])",
        warm_up=60,
        compute=_relative_strength,
        source="Blitz, Huij & Martens 2011",
        needs="index",
    ),
    Feature(
        name="implied_volatility",
        group="cross-asset",
        formula="log X",
        warm_up=1,
        compute=_implied,
        source="Whaley 2000",
        needs="volatility_index",
    ),
    *_of_implied("implied_change_{n}", "log(X / X[-{n}])", _implied_change, (1, 5), later=1),
    *_of_implied("implied_score_{n}", "(log X - mean) / deviation over {n}, 0 if flat", _implied_score, (60,)),
    *_of_implied("implied_percentile_{n}", "share of the last {n} X that are not above X", _implied_percentile, (252,)),
    *_of_implied("implied_trend_{n}", "log X minus its mean over {n}", _implied_trend, (20,)),
    Feature(
        name="implied_over_realised",
        group="cross-asset",
        formula=f"log(X / 100 / sqrt({SESSIONS_PER_YEAR}) / {IMPLIED_LENGTH}-day realised volatility)",
        warm_up=IMPLIED_LENGTH,
        compute=_implied_over_realised,
        source="Bollerslev, Tauchen & Zhou 2009",
        needs="volatility_index",
    ),
)
