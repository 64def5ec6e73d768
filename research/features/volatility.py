"""Volatility of daily returns: level, term structure, asymmetry, and volatility of volatility."""

from __future__ import annotations

from functools import partial

import numpy as np

from research.features.feature import Bars, Feature, Series, family, feature
from research.features.indicators import ewma_volatility
from research.features.rolling import change, lagged, ratio, rolling_mean, rolling_variance

VOLATILITY_FLOOR = 1e-5
"""Smallest daily volatility that differs from zero: a tenth of a basis point."""


def root_mean_square(values: Series, length: int) -> Series:
    """Return the root mean square of each window."""
    return np.sqrt(rolling_mean(values**2, length))


def log_volatility(volatility: Series) -> Series:
    """Return the logarithm of the volatility, or of `VOLATILITY_FLOOR` if that is larger."""
    return np.log(np.maximum(volatility, VOLATILITY_FLOOR))


def daily_returns(bars: Bars) -> Series:
    """Return the daily log returns of the close."""
    return change(np.log(bars.close), 1)


def _realised(bars: Bars, length: int) -> Series:
    return log_volatility(root_mean_square(daily_returns(bars), length))


def _downside(bars: Bars, length: int) -> Series:
    return log_volatility(root_mean_square(np.minimum(daily_returns(bars), 0.0), length))


def _upside(bars: Bars, length: int) -> Series:
    return log_volatility(root_mean_square(np.maximum(daily_returns(bars), 0.0), length))


def _ewma(bars: Bars) -> Series:
    with np.errstate(divide="ignore"):
        volatility = ewma_volatility(bars.close)
    return np.maximum(volatility, np.log(VOLATILITY_FLOOR))


def _jump_share(bars: Bars, length: int) -> Series:
    """Return one minus the ratio of bipower variation to variance, at least 0: the share of jumps in the variance."""
    absolute = np.abs(daily_returns(bars))
    smooth = np.pi / 2 * rolling_mean(absolute * lagged(absolute, 1), length)
    total = rolling_mean(absolute**2, length)
    return np.maximum(1 - ratio(smooth, total, floor=VOLATILITY_FLOOR**2, otherwise=1.0), 0.0)


def _ratio_feature(short: int, long: int) -> Feature:
    formula = f"log({short}-day / {long}-day realised volatility)"
    return _feature(
        f"volatility_ratio_{short}_{long}",
        formula,
        long,
        lambda bars: _realised(bars, short) - _realised(bars, long),
        "Corsi 2009",
    )


_family = partial(family, "volatility")
_feature = partial(feature, "volatility")

VOLATILITY_FEATURES = (
    *_family("realised_volatility_{n}", "log sqrt(mean r^2 over {n})", _realised, (5, 20, 60)),
    _ratio_feature(10, 60),
    _ratio_feature(20, 120),
    _feature("ewma_volatility", "log sqrt(exponentially weighted mean r^2, decay 0.94)", 1, _ewma, "RiskMetrics 1996"),
    *_family(
        "downside_volatility_{n}",
        "log sqrt(mean min(r, 0)^2 over {n})",
        _downside,
        (20,),
        source="Barndorff-Nielsen, Kinnebrock & Shephard 2010",
    ),
    *_family(
        "upside_volatility_{n}",
        "log sqrt(mean max(r, 0)^2 over {n})",
        _upside,
        (20,),
        source="Barndorff-Nielsen, Kinnebrock & Shephard 2010",
    ),
    *_family(
        "jump_share_{n}",
        "max(1 - (pi/2) mean |r r[-1]| / mean r^2, 0) over {n}, 0 if flat",
        _jump_share,
        (20,),
        later=1,
        source="Barndorff-Nielsen & Shephard 2004",
    ),
    *family(
        "vol-of-vol",
        "volatility_of_volatility_{n}",
        "deviation of the daily change of ewma_volatility over {n}",
        lambda bars, length: np.sqrt(rolling_variance(change(_ewma(bars), 1), length)),
        (20,),
        later=1,
        source="Corsi, Mittnik, Pigorsch & Pigorsch 2008",
    ),
)
