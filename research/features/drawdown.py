"""Distance to the highest and lowest close of a window, in log price and in sessions."""

from __future__ import annotations

from functools import partial

import numpy as np
import talib

from research.features.feature import family
from research.features.rolling import sessions_since_highest

_family = partial(family, "drawdown", later=-1)

DRAWDOWN_FEATURES = (
    *_family(
        "drawdown_{n}",
        "log(C / max C over {n})",
        lambda bars, length: np.log(bars.close / talib.MAX(bars.close, timeperiod=length)),
        (20, 120),
        source="George & Hwang 2004",
    ),
    *_family(
        "run_up_{n}",
        "log(C / min C over {n})",
        lambda bars, length: np.log(bars.close / talib.MIN(bars.close, timeperiod=length)),
        (20, 120),
    ),
    *_family(
        "since_high_{n}",
        "sessions since the newest highest C of {n} / {n}",
        lambda bars, length: sessions_since_highest(bars.close, length) / length,
        (60,),
    ),
    *_family(
        "since_low_{n}",
        "sessions since the newest lowest C of {n} / {n}",
        lambda bars, length: sessions_since_highest(-bars.close, length) / length,
        (60,),
    ),
)
