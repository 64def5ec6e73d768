"""What the date says, from date arithmetic alone: no exchange's future sessions are looked up."""

from __future__ import annotations

import numpy as np
import pandas as pd

from research.features.feature import Bars, Feature, Series

LONGEST_BREAK = 10.0
"""Largest number of days between two sessions that is told apart."""


def _cycle(position: pd.Index[int], length: int, wave: np.ufunc) -> Series:
    return np.asarray(wave(2 * np.pi * position.to_numpy(np.float64) / length), dtype=np.float64)


def _weekday(bars: Bars, wave: np.ufunc) -> Series:
    return _cycle(bars.days.dayofweek, 7, wave)


def _month(bars: Bars, wave: np.ufunc) -> Series:
    return _cycle(bars.days.month - 1, 12, wave)


def _since_last_session(bars: Bars) -> Series:
    days = bars.days.to_numpy().astype("datetime64[D]").astype(np.float64)
    elapsed = np.diff(days, prepend=np.nan)
    return np.log(np.minimum(elapsed, LONGEST_BREAK))


def _turn_of_month(bars: Bars) -> Series:
    """Counted in weekdays, since the exchange's own last session of a month is not known from dates."""
    days = bars.days.to_numpy().astype("datetime64[D]")
    month = days.astype("datetime64[M]")
    elapsed = np.busday_count(month.astype("datetime64[D]"), days + np.timedelta64(1, "D"))
    next_weekday = np.busday_offset(days, 1, roll="backward")
    last = next_weekday.astype("datetime64[M]") != month
    return np.asarray((elapsed <= 3) | last, dtype=np.float64)


CALENDAR_FEATURES = (
    Feature(
        name="weekday_sine",
        group="calendar",
        formula="sin(2 pi weekday / 7), Monday 0",
        warm_up=0,
        compute=lambda bars: _weekday(bars, np.sin),
        source="French 1980",
    ),
    Feature(
        name="weekday_cosine",
        group="calendar",
        formula="cos(2 pi weekday / 7), Monday 0",
        warm_up=0,
        compute=lambda bars: _weekday(bars, np.cos),
        source="French 1980",
    ),
    Feature(
        name="month_sine",
        group="calendar",
        formula="sin(2 pi month / 12), January 0",
        warm_up=0,
        compute=lambda bars: _month(bars, np.sin),
    ),
    Feature(
        name="month_cosine",
        group="calendar",
        formula="cos(2 pi month / 12), January 0",
        warm_up=0,
        compute=lambda bars: _month(bars, np.cos),
    ),
    Feature(
        name="since_last_session",
        group="calendar",
        formula=f"log(days since the last session, at most {LONGEST_BREAK:g})",
        warm_up=1,
        compute=_since_last_session,
        source="French & Roll 1986",
    ),
    Feature(
        name="turn_of_month",
        group="calendar",
        formula="1 on the last weekday of a month and on its first three, else 0",
        warm_up=0,
        compute=_turn_of_month,
        source="Ariel 1987",
    ),
)
