"""Exchange calendars: on which days an exchange was open, when it closed, and how far back that is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import cache

import pandas as pd

from research.errors import InputError

TRUSTED_SINCE = pd.Timestamp("1990-01-01")
"""XNYS equals twenty years of real bars to the day; older holidays and half days of these calendars are unreliable."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Calendar:
    """The sessions of one exchange over the time in which they can be trusted."""

    name: str
    """Name in exchange-calendars, for example `XNYS`."""
    first: pd.Timestamp
    """First day on which sessions are known."""
    sessions: pd.DatetimeIndex
    """Dates without time zone, up to about a year from today."""
    closes: pd.DatetimeIndex
    """UTC time at which each session ends, half days included."""

    @property
    def last(self) -> pd.Timestamp:
        """Last day on which sessions are known."""
        return pd.Timestamp(self.sessions[-1])

    def between(self, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
        """Sessions from `first` to `last`, both included, without those that are not known."""
        return self.sessions[self.sessions.searchsorted(first) : self.sessions.searchsorted(last, side="right")]


@cache
def calendar_named(name: str) -> Calendar:
    """The calendar of an exchange; `InputError` names close matches of an unknown one."""
    # Takes a tenth of a second, which a sweep on stored bars need not pay.
    import exchange_calendars
    from exchange_calendars.errors import InvalidCalendarName

    try:
        default = exchange_calendars.get_calendar(name)
    except InvalidCalendarName as problem:
        known = exchange_calendars.get_calendar_names()
        near = ", ".join(get_close_matches(name.upper(), known, n=4, cutoff=0.5) or ["XNYS", "XLON", "24/7"])
        raise InputError(f"CALENDAR={name}: no such exchange calendar; close to it: {near}.") from problem
    bound = type(default).bound_min()
    first = TRUSTED_SINCE if bound is None else max(bound, TRUSTED_SINCE)
    # Without a start the calendar would begin twenty years ago.
    whole = exchange_calendars.get_calendar(name, start=first)
    return Calendar(name=whole.name, first=first, sessions=whole.sessions, closes=pd.DatetimeIndex(whole.closes))


def sessions_missed(last: pd.Timestamp, calendar: Calendar | None, now: datetime) -> int:
    """Sessions after the day `last` that are over by `now`, an aware time; weekdays where no calendar is known."""
    today = pd.Timestamp(now).tz_convert("UTC").tz_localize(None).normalize()
    # West of Greenwich it may still be yesterday, east of it tomorrow: whether a session is over is for its close to say.
    until = today + pd.Timedelta(days=1)
    after = last + pd.Timedelta(days=1)
    days = pd.bdate_range(after, until) if calendar is None else calendar.between(after, until)
    return int((session_closes(days, calendar) <= pd.Timestamp(now)).sum())


def session_closes(days: pd.DatetimeIndex, calendar: Calendar | None) -> pd.DatetimeIndex:
    """UTC time at which each day's bar is complete: the session's close, or midnight where none is known."""
    midnights = pd.DatetimeIndex(days.normalize() + pd.Timedelta(days=1)).tz_localize("UTC").as_unit("us")
    if calendar is None:
        return midnights
    position = calendar.sessions.get_indexer(days.normalize())
    closes = pd.Series(calendar.closes.as_unit("us").take(position))
    return pd.DatetimeIndex(closes.where(position >= 0, pd.Series(midnights)))
