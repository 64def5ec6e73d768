"""Returns over several horizons, overnight moves, and where a day closed."""

from __future__ import annotations

import numpy as np

from research.features.feature import Bars, Feature, Series, family
from research.features.rolling import change, lagged, ratio
from research.features.volatility import VOLATILITY_FLOOR, daily_returns, root_mean_square

STANDARD_DEVIATIONS = 10.0
"""Largest size of a move measured in standard deviations."""


def _log_return(bars: Bars, length: int) -> Series:
    return change(np.log(bars.close), length)


def overnight_return(bars: Bars) -> Series:
    """Log return from the previous close to the open."""
    return np.log(bars.open) - lagged(np.log(bars.close), 1)


def _in_volatility(move: Series, bars: Bars) -> Series:
    """A move in units of the 20-day volatility known the day before."""
    usual = lagged(root_mean_square(daily_returns(bars), 20), 1)
    deviations = move / np.maximum(usual, VOLATILITY_FLOOR)
    return np.clip(deviations, -STANDARD_DEVIATIONS, STANDARD_DEVIATIONS)


def close_location(bars: Bars) -> Series:
    """Place of the close in the day's range: -1 at the low, 1 at the high, 0 for a flat bar."""
    return ratio(2 * bars.close - bars.high - bars.low, bars.high - bars.low, floor=0.0, otherwise=0.0)


RETURN_FEATURES = (
    *family("return", "return_{n}", "log(C / C[-{n}])", _log_return, (2, 3, 5, 10, 20, 60, 120)),
    Feature(
        name="overnight_return",
        group="return",
        formula="log(O / C[-1]); the intraday return is minus the column open",
        warm_up=1,
        compute=overnight_return,
        source="French & Roll 1986",
    ),
    Feature(
        name="gap",
        group="return",
        formula=f"log(O / C[-1]) / 20-day volatility[-1], within ±{STANDARD_DEVIATIONS:g}",
        warm_up=21,
        compute=lambda bars: _in_volatility(overnight_return(bars), bars),
    ),
    Feature(
        name="shock",
        group="return",
        formula=f"r / 20-day volatility[-1], within ±{STANDARD_DEVIATIONS:g}",
        warm_up=21,
        compute=lambda bars: _in_volatility(daily_returns(bars), bars),
    ),
    Feature(
        name="close_location",
        group="return",
        formula="(2C - H - L) / (H - L), 0 for a flat bar",
        warm_up=0,
        compute=close_location,
        source="Chaikin",
    ),
)
