"""How much was traded, how much a unit of it moved the price, and on which side."""

from __future__ import annotations

import numpy as np

from research.features.feature import Bars, Feature, Series, family
from research.features.reference_columns import VOLUME_FLOOR
from research.features.returns import close_location
from research.features.rolling import ratio, rolling_correlation, rolling_mean, rolling_sum
from research.features.volatility import VOLATILITY_FLOOR, daily_returns


def _log_share(part: Series, whole: Series) -> Series:
    """log(part / whole), at least log(`VOLUME_FLOOR`), 0 where the whole is nothing."""
    return np.log(np.maximum(ratio(part, whole, floor=0.0, otherwise=1.0), VOLUME_FLOOR))


def _relative_volume(bars: Bars, length: int) -> Series:
    return _log_share(bars.volume, rolling_mean(bars.volume, length))


def _volume_ratio(bars: Bars) -> Series:
    return _log_share(rolling_mean(bars.volume, 20), rolling_mean(bars.volume, 120))


def _illiquidity(bars: Bars) -> Series:
    """Means of moves and of turnover apart: a day without volume has no quotient of its own."""
    move, turnover = np.abs(daily_returns(bars)), bars.close * bars.volume
    moved = np.log(np.maximum(rolling_mean(move, 20), VOLATILITY_FLOOR) / np.maximum(rolling_mean(move, 120), VOLATILITY_FLOOR))
    return moved - _log_share(rolling_mean(turnover, 20), rolling_mean(turnover, 120))


def _chaikin_flow(bars: Bars, length: int) -> Series:
    flow, traded = (rolling_sum(values, length) for values in (close_location(bars) * bars.volume, bars.volume))
    return ratio(flow, traded, floor=0.0, otherwise=0.0)


def _volume_return_correlation(bars: Bars) -> Series:
    relative = ratio(bars.volume, rolling_mean(bars.volume, 60), floor=0.0, otherwise=1.0)
    return rolling_correlation(daily_returns(bars), relative, 60, floor=VOLATILITY_FLOOR)


VOLUME_FEATURES = (
    *family(
        "volume",
        "relative_volume_{n}",
        f"log(V / mean V over {{n}}), at least log({VOLUME_FLOOR})",
        _relative_volume,
        (5,),
        later=-1,
    ),
    Feature(
        name="volume_ratio_20_120",
        group="volume",
        formula=f"log(mean V over 20 / mean V over 120), at least log({VOLUME_FLOOR})",
        warm_up=119,
        compute=_volume_ratio,
    ),
    Feature(
        name="illiquidity_20",
        group="volume",
        formula="log of mean |r| / mean C V over 20, relative to the same over 120",
        warm_up=120,
        compute=_illiquidity,
        source="Amihud 2002",
    ),
    *family(
        "volume",
        "chaikin_flow_{n}",
        "sum V (2C - H - L) / (H - L) / sum V over {n}, 0 if none",
        _chaikin_flow,
        (20,),
        later=-1,
        source="Chaikin",
    ),
    Feature(
        name="volume_return_correlation_60",
        group="volume",
        formula="correlation of V / its 60-day mean with r over 60, 0 if flat",
        warm_up=118,
        compute=_volume_return_correlation,
        source="Karpoff 1987",
    ),
)
