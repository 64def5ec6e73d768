"""Relative volume, price impact of turnover, and direction of money flow."""

from __future__ import annotations

from functools import partial

import numpy as np

from research.features.feature import Bars, Series, family, feature
from research.features.reference_columns import VOLUME_FLOOR
from research.features.returns import close_location
from research.features.rolling import ratio, rolling_correlation, rolling_mean, rolling_sum
from research.features.volatility import VOLATILITY_FLOOR, daily_returns


def _log_share(part: Series, whole: Series) -> Series:
    """Return log(part / whole), at least log(`VOLUME_FLOOR`), and 0 if the whole is zero."""
    return np.log(np.maximum(ratio(part, whole, floor=0.0, otherwise=1.0), VOLUME_FLOOR))


def _illiquidity(bars: Bars) -> Series:
    """Return the log ratio of mean move to mean turnover; the means are separate, since a day may have no volume."""
    move, turnover = np.abs(daily_returns(bars)), bars.close * bars.volume
    moved = np.log(np.maximum(rolling_mean(move, 20), VOLATILITY_FLOOR) / np.maximum(rolling_mean(move, 120), VOLATILITY_FLOOR))
    return moved - _log_share(rolling_mean(turnover, 20), rolling_mean(turnover, 120))


def _chaikin_flow(bars: Bars, length: int) -> Series:
    flow, traded = (rolling_sum(values, length) for values in (close_location(bars) * bars.volume, bars.volume))
    return ratio(flow, traded, floor=0.0, otherwise=0.0)


def _volume_return_correlation(bars: Bars) -> Series:
    relative = ratio(bars.volume, rolling_mean(bars.volume, 60), floor=0.0, otherwise=1.0)
    return rolling_correlation(daily_returns(bars), relative, 60, floor=VOLATILITY_FLOOR)


_family = partial(family, "volume")
_feature = partial(feature, "volume")

VOLUME_FEATURES = (
    *_family(
        "relative_volume_{n}",
        f"log(V / mean V over {{n}}), at least log({VOLUME_FLOOR})",
        lambda bars, length: _log_share(bars.volume, rolling_mean(bars.volume, length)),
        (5,),
        later=-1,
    ),
    _feature(
        "volume_ratio_20_120",
        f"log(mean V over 20 / mean V over 120), at least log({VOLUME_FLOOR})",
        119,
        lambda bars: _log_share(rolling_mean(bars.volume, 20), rolling_mean(bars.volume, 120)),
    ),
    _feature(
        "illiquidity_20", "log of mean |r| / mean C V over 20, relative to the same over 120", 120, _illiquidity, "Amihud 2002"
    ),
    *_family(
        "chaikin_flow_{n}",
        "sum V (2C - H - L) / (H - L) / sum V over {n}, 0 if none",
        _chaikin_flow,
        (20,),
        later=-1,
        source="Chaikin",
    ),
    _feature(
        "volume_return_correlation_60",
        "correlation of V / its 60-day mean with r over 60, 0 if flat",
        118,
        _volume_return_correlation,
        "Karpoff 1987",
    ),
)
