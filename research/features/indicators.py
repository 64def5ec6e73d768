"""Indicators on raw bars, computed by TA-Lib if it has them. The value at day t uses only bars up to t.

All functions take float64 arrays [days] and return an array of the same shape, NaN in the warm-up.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import talib
from numpy.typing import NDArray

Series = NDArray[np.float64]


def stochastic_rsi(close: Series, rsi_length: int = 14, k_length: int = 5, d_length: int = 3) -> Series:
    """Return the slow line (%D) of the stochastic RSI in 0..100 (Chande & Kroll 1994), which uses all three lengths."""
    return talib.STOCHRSI(close, timeperiod=rsi_length, fastk_period=k_length, fastd_period=d_length)[1]


def macd_line(close: Series, fast: int = 12, slow: int = 26) -> Series:
    """Return the difference of two exponential means of the close, in price units (Appel 1979)."""
    return talib.MACD(close, fastperiod=fast, slowperiod=slow, signalperiod=9)[0]


def adosc(high: Series, low: Series, close: Series, volume: Series, fast: int = 3, slow: int = 10) -> Series:
    """Return the Chaikin oscillator: fast minus slow exponential mean of the accumulation/distribution line."""
    return talib.ADOSC(high, low, close, volume, fastperiod=fast, slowperiod=slow)


def percent_b(close: Series, length: int = 20, width: float = 2.0) -> Series:
    """Return the position of the close between the Bollinger bands: 0 lower, 1 upper, 0.5 if the band has no width."""
    upper, _, lower = talib.BBANDS(close, timeperiod=length, nbdevup=width, nbdevdn=width)
    band = upper - lower
    return np.where(band == 0, 0.5, (close - lower) / np.where(band == 0, 1.0, band))


def vwap(close: Series, volume: Series, length: int = 20) -> Series:
    """Return the volume-weighted mean close over `length` sessions; the plain mean if there was no volume."""
    traded = talib.SUM(volume, timeperiod=length)
    weighted = talib.SUM(close * volume, timeperiod=length)
    untraded = traded <= 0
    return np.where(untraded, talib.SMA(close, timeperiod=length), weighted / np.where(untraded, 1.0, traded))


def weekly(close: Series, days: pd.DatetimeIndex, indicator: Callable[[Series], Series]) -> Series:
    """Return an indicator of weekly closes for each day, without look-ahead.

    A week ends on its Friday, even if Friday is a holiday, and its value is used from the next session on: at day t the
    newest week is the last one whose Friday is strictly before t. The week that contains t would look ahead on Monday to
    Thursday.
    """
    fridays = (days + pd.to_timedelta((4 - days.dayofweek) % 7, unit="D")).to_numpy()
    last_of_week = np.append(fridays[1:] != fridays[:-1], True)
    week_ends = fridays[last_of_week]
    values = indicator(np.ascontiguousarray(close[last_of_week]))
    newest = np.searchsorted(week_ends, days.to_numpy(), side="left") - 1
    return np.where(newest >= 0, values[np.maximum(newest, 0)], np.nan)


def ewma_volatility(close: Series, decay: float = 0.94) -> Series:
    """Return the log of the exponentially weighted volatility of log returns (RiskMetrics 1996, decay 0.94)."""
    squared = pd.Series(np.diff(np.log(close), prepend=np.nan)) ** 2
    return np.asarray(0.5 * np.log(squared.ewm(alpha=1 - decay).mean().to_numpy()), dtype=np.float64)
