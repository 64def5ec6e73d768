"""Distance to the highest and lowest close of a window, in price and in time."""

from __future__ import annotations

from functools import partial

import numpy as np
import talib

from research.features.feature import Bars, Series, family
from research.features.rolling import sessions_since_highest


def _drawdown(bars: Bars, length: int) -> Series:
    return np.log(bars.close / talib.MAX(bars.close, timeperiod=length))


def _run_up(bars: Bars, length: int) -> Series:
    return np.log(bars.close / talib.MIN(bars.close, timeperiod=length))


def _since_high(bars: Bars, length: int) -> Series:
    return sessions_since_highest(bars.close, length) / length


def _since_low(bars: Bars, length: int) -> Series:
    return sessions_since_highest(-bars.close, length) / length


_family = partial(family, "drawdown", later=-1)

DRAWDOWN_FEATURES = (
    *_family("drawdown_{n}", "log(C / max C over {n})", _drawdown, (20, 120), source="George & Hwang 2004"),
    *_family("run_up_{n}", "log(C / min C over {n})", _run_up, (20, 120)),
    *_family("since_high_{n}", "sessions since the newest highest C of {n} / {n}", _since_high, (60,)),
    *_family("since_low_{n}", "sessions since the newest lowest C of {n} / {n}", _since_low, (60,)),
)
