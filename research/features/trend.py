"""Direction of the recent price path and its fit to a straight line."""

from __future__ import annotations

import numpy as np
import talib

from research.features.feature import Bars, Series, family
from research.features.rolling import ratio, rolling_covariance, rolling_variance
from research.features.volatility import VOLATILITY_FLOOR


def _against_time(bars: Bars, length: int) -> tuple[Series, Series, float]:
    """Return the covariance of log close and session number, and the variances of both."""
    price, time = np.log(bars.close), np.arange(len(bars.close), dtype=np.float64)
    return rolling_covariance(price, time, length), rolling_variance(price, length), (length**2 - 1) / 12


def _slope(bars: Bars, length: int) -> Series:
    covariance, _, time_variance = _against_time(bars, length)
    return length * covariance / time_variance


def _straightness(bars: Bars, length: int) -> Series:
    covariance, variance, time_variance = _against_time(bars, length)
    return ratio(covariance**2, variance * time_variance, floor=VOLATILITY_FLOOR**2 * time_variance, otherwise=0.0)


def _direction(bars: Bars, length: int) -> Series:
    up, down = (indicator(bars.high, bars.low, bars.close, timeperiod=length) for indicator in (talib.PLUS_DI, talib.MINUS_DI))
    return ratio(up - down, up + down, floor=0.0, otherwise=0.0)


TREND_FEATURES = (
    *family("trend", "trend_slope_{n}", "{n} x slope of the regression of log C on time over {n}", _slope, (20, 60), later=-1),
    *family(
        "trend", "trend_r2_{n}", "R2 of the regression of log C on time over {n}, 0 if flat", _straightness, (60,), later=-1
    ),
    *family(
        "trend", "di_balance_{n}", "(DI+ - DI-) / (DI+ + DI-) over {n}, 0 if flat", _direction, (14,), source="Wilder 1978"
    ),
)
