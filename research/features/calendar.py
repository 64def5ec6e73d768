"""Features of the date, from date arithmetic alone: the exchange's future sessions are never used."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from research.features.feature import Bars, Series, feature

LONGEST_BREAK = 10.0
"""Largest number of days between two sessions; longer breaks are clipped."""


def _cycle(position: pd.Index[int], length: int, wave: np.ufunc) -> Series:
    return np.asarray(wave(2 * np.pi * position.to_numpy(np.float64) / length), dtype=np.float64)


def _since_last_session(bars: Bars) -> Series:
    days = bars.days.to_numpy().astype("datetime64[D]").astype(np.float64)
    elapsed = np.diff(days, prepend=np.nan)
    return np.log(np.minimum(elapsed, LONGEST_BREAK))


def _turn_of_month(bars: Bars) -> Series:
    """Return 1 at the turn of a month, in weekdays: dates alone do not give the exchange's last session of a month."""
    days = bars.days.to_numpy().astype("datetime64[D]")
    month = days.astype("datetime64[M]")
    elapsed = np.busday_count(month.astype("datetime64[D]"), days + np.timedelta64(1, "D"))
    next_weekday = np.busday_offset(days, 1, roll="backward")
    last = next_weekday.astype("datetime64[M]") != month
    return np.asarray((elapsed <= 3) | last, dtype=np.float64)


_calendar = partial(feature, "calendar")

CALENDAR_FEATURES = (
    _calendar(
        "weekday_sine", "sin(2 pi weekday / 7), Monday 0", 0, lambda bars: _cycle(bars.days.dayofweek, 7, np.sin), "French 1980"
    ),
    _calendar(
        "weekday_cosine",
        "cos(2 pi weekday / 7), Monday 0",
        0,
        lambda bars: _cycle(bars.days.dayofweek, 7, np.cos),
        "French 1980",
    ),
    _calendar("month_sine", "sin(2 pi month / 12), January 0", 0, lambda bars: _cycle(bars.days.month - 1, 12, np.sin)),
    _calendar("month_cosine", "cos(2 pi month / 12), January 0", 0, lambda bars: _cycle(bars.days.month - 1, 12, np.cos)),
    _calendar(
        "since_last_session",
        f"log(days since the last session, at most {LONGEST_BREAK:g})",
        1,
        _since_last_session,
        "French & Roll 1986",
    ),
    _calendar(
        "turn_of_month", "1 on the last weekday of a month and on its first three, else 0", 0, _turn_of_month, "Ariel 1987"
    ),
)
