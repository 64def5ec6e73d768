"""Returns over several horizons, overnight moves, and the position of the close in the day's range."""

from __future__ import annotations

from functools import partial

import numpy as np

from research.features.feature import Bars, Series, family, feature
from research.features.rolling import change, lagged, ratio
from research.features.volatility import VOLATILITY_FLOOR, daily_returns, root_mean_square

STANDARD_DEVIATIONS = 10.0
"""Bound of a move, in standard deviations."""


def overnight_return(bars: Bars) -> Series:
    """Return the log return from the previous close to the open."""
    return np.log(bars.open) - lagged(np.log(bars.close), 1)


def _in_volatility(move: Series, bars: Bars) -> Series:
    """Return a move in units of the previous day's 20-day volatility."""
    volatility = lagged(root_mean_square(daily_returns(bars), 20), 1)
    deviations = move / np.maximum(volatility, VOLATILITY_FLOOR)
    return np.clip(deviations, -STANDARD_DEVIATIONS, STANDARD_DEVIATIONS)


def close_location(bars: Bars) -> Series:
    """Return the position of the close in the day's range: -1 at the low, 1 at the high, 0 for a flat bar."""
    return ratio(2 * bars.close - bars.high - bars.low, bars.high - bars.low, floor=0.0, otherwise=0.0)


_feature = partial(feature, "return")

RETURN_FEATURES = (
    *family(
        "return",
        "return_{n}",
        "log(C / C[-{n}])",
        lambda bars, length: change(np.log(bars.close), length),
        (2, 3, 5, 10, 20, 60, 120),
    ),
    _feature(
        "overnight_return",
        "log(O / C[-1]); the intraday return is minus the column open",
        1,
        overnight_return,
        "French & Roll 1986",
    ),
    _feature(
        "gap",
        f"log(O / C[-1]) / 20-day volatility[-1], within ±{STANDARD_DEVIATIONS:g}",
        21,
        lambda bars: _in_volatility(overnight_return(bars), bars),
    ),
    _feature(
        "shock",
        f"r / 20-day volatility[-1], within ±{STANDARD_DEVIATIONS:g}",
        21,
        lambda bars: _in_volatility(daily_returns(bars), bars),
    ),
    _feature("close_location", "(2C - H - L) / (H - L), 0 for a flat bar", 0, close_location, "Chaikin"),
)
