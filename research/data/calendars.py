"""Exchange calendars: sessions, closing times, and the period in which they are reliable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import cache

import pandas as pd

from research.errors import InputError

TRUSTED_SINCE = pd.Timestamp("1990-01-01")
"""First reliable day. XNYS agrees with twenty years of real bars; older holidays and half days are unreliable."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Calendar:
    """Sessions of one exchange in its reliable period."""

    name: str
    """Name in exchange-calendars, for example `XNYS`."""
    first: pd.Timestamp
    """First reliable day."""
    sessions: pd.DatetimeIndex
    """Dates of sessions without time zone, up to about a year from today."""
    closes: pd.DatetimeIndex
    """UTC closing time of each session, half days included."""

    @property
    def last(self) -> pd.Timestamp:
        """Last session of the calendar."""
        return pd.Timestamp(self.sessions[-1])

    def between(self, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
        """Return the calendar's sessions from `first` to `last`, both included."""
        return self.sessions[self.sessions.searchsorted(first) : self.sessions.searchsorted(last, side="right")]


@cache
def calendar_named(name: str) -> Calendar:
    """Return the calendar of an exchange; raise `InputError` with close matches if the name is unknown."""
    # The import takes a tenth of a second, which a sweep on stored bars does not need.
    import exchange_calendars
    from exchange_calendars.errors import InvalidCalendarName

    try:
        default = exchange_calendars.get_calendar(name)
    except InvalidCalendarName as error:
        names = exchange_calendars.get_calendar_names()
        matches = ", ".join(get_close_matches(name.upper(), names, n=4, cutoff=0.5) or ["XNYS", "XLON", "24/7"])
        raise InputError(f"CALENDAR={name}: no such exchange calendar; give one such as {matches}.") from error
    bound = type(default).bound_min()
    first = TRUSTED_SINCE if bound is None else max(bound, TRUSTED_SINCE)
    # Without a start the calendar begins twenty years ago.
    calendar = exchange_calendars.get_calendar(name, start=first)
    return Calendar(name=calendar.name, first=first, sessions=calendar.sessions, closes=pd.DatetimeIndex(calendar.closes))


def sessions_missed(last: pd.Timestamp, calendar: Calendar | None, now: datetime) -> int:
    """Return the number of sessions after `last` that ended by `now` (with time zone); weekdays if there is no calendar."""
    today = pd.Timestamp(now).tz_convert("UTC").tz_localize(None).normalize()
    # The local date may differ from the UTC date by a day; the closing time decides whether a session has ended.
    until = today + pd.Timedelta(days=1)
    after = last + pd.Timedelta(days=1)
    days = pd.bdate_range(after, until) if calendar is None else calendar.between(after, until)
    return int((session_closes(days, calendar) <= pd.Timestamp(now)).sum())


def session_closes(days: pd.DatetimeIndex, calendar: Calendar | None) -> pd.DatetimeIndex:
    """Return the UTC time at which each day's bar is complete: the session's close, or midnight if it is unknown."""
    midnights = pd.DatetimeIndex(days.normalize() + pd.Timedelta(days=1)).tz_localize("UTC").as_unit("us")
    if calendar is None:
        return midnights
    position = calendar.sessions.get_indexer(days.normalize())
    closes = pd.Series(calendar.closes.as_unit("us").take(position))
    return pd.DatetimeIndex(closes.where(position >= 0, pd.Series(midnights)))
