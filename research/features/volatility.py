"""Volatility of daily returns: levels, term structure, asymmetry, and the volatility of volatility itself."""

from __future__ import annotations

import numpy as np

from research.features.feature import Bars, Feature, Series, family
from research.features.indicators import ewma_volatility
from research.features.rolling import change, lagged, ratio, rolling_mean, rolling_variance

VOLATILITY_FLOOR = 1e-5
"""Smallest daily volatility that is told from none: a tenth of a basis point."""


def root_mean_square(values: Series, length: int) -> Series:
    """Square root of the mean square of the window."""
    return np.sqrt(rolling_mean(values**2, length))


def log_volatility(volatility: Series) -> Series:
    """Logarithm, at least that of `VOLATILITY_FLOOR`."""
    return np.log(np.maximum(volatility, VOLATILITY_FLOOR))


def daily_returns(bars: Bars) -> Series:
    """Log returns of the close."""
    return change(np.log(bars.close), 1)


def _realised(bars: Bars, length: int) -> Series:
    return log_volatility(root_mean_square(daily_returns(bars), length))


def _downside(bars: Bars, length: int) -> Series:
    return log_volatility(root_mean_square(np.minimum(daily_returns(bars), 0.0), length))


def _upside(bars: Bars, length: int) -> Series:
    return log_volatility(root_mean_square(np.maximum(daily_returns(bars), 0.0), length))


def _ewma(bars: Bars) -> Series:
    with np.errstate(divide="ignore"):
        known = ewma_volatility(bars.close)
    return np.maximum(known, np.log(VOLATILITY_FLOOR))


def _volatility_of_volatility(bars: Bars, length: int) -> Series:
    return np.sqrt(rolling_variance(change(_ewma(bars), 1), length))


def _jump_share(bars: Bars, length: int) -> Series:
    """Share of the variance that neighbouring days do not share; smooth moves give 0."""
    absolute = np.abs(daily_returns(bars))
    smooth = np.pi / 2 * rolling_mean(absolute * lagged(absolute, 1), length)
    total = rolling_mean(absolute**2, length)
    return np.maximum(1 - ratio(smooth, total, floor=VOLATILITY_FLOOR**2, otherwise=1.0), 0.0)


VOLATILITY_FEATURES = (
    *family("volatility", "realised_volatility_{n}", "log sqrt(mean r^2 over {n})", _realised, (5, 20, 60)),
    Feature(
        name="volatility_ratio_10_60",
        group="volatility",
        formula="log(10-day / 60-day realised volatility)",
        warm_up=60,
        compute=lambda bars: _realised(bars, 10) - _realised(bars, 60),
        source="Corsi 2009",
    ),
    Feature(
        name="volatility_ratio_20_120",
        group="volatility",
        formula="log(20-day / 120-day realised volatility)",
        warm_up=120,
        compute=lambda bars: _realised(bars, 20) - _realised(bars, 120),
        source="Corsi 2009",
    ),
    Feature(
        name="ewma_volatility",
        group="volatility",
        formula="log sqrt(exponentially weighted mean r^2, decay 0.94)",
        warm_up=1,
        compute=_ewma,
        source="RiskMetrics 1996",
    ),
    *family(
        "volatility",
        "downside_volatility_{n}",
        "log sqrt(mean min(r, 0)^2 over {n})",
        _downside,
        (20,),
        source="Barndorff-Nielsen, Kinnebrock & Shephard 2010",
    ),
    *family(
        "volatility",
        "upside_volatility_{n}",
        "log sqrt(mean max(r, 0)^2 over {n})",
        _upside,
        (20,),
        source="Barndorff-Nielsen, Kinnebrock & Shephard 2010",
    ),
    *family(
        "volatility",
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
        _volatility_of_volatility,
        (20,),
        later=1,
        source="Corsi, Mittnik, Pigorsch & Pigorsch 2008",
    ),
)
