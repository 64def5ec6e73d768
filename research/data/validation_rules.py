"""The rules of validation, one table: a test on the bars of one instrument, its message and its severity.

A jump is a daily log return of the close beyond `JUMPS`. Every day of the bundled indices (largest 0.133), 19 October 1987
(S&P 500 -0.229, Dow -0.256) and March 2020 (-0.128) stay inside. A volatility index moves more, so the limit is at least
`JUMP_OF_MEDIAN` times the instrument's own median move.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from research.data.bars import CONTRACT, Mask, RowRule, some_dates
from research.data.calendars import Calendar, session_closes
from research.data.sources import Instrument, Kind

Severity = Literal["error", "warning"]

KINDS: frozenset[Kind] = frozenset(get_args(Kind))
NONE: frozenset[Kind] = frozenset()
REAL: frozenset[Kind] = KINDS - {"simulated"}

JUMPS: dict[Kind, float] = {"index": 0.35, "fund": 0.35, "currency": 0.35}
USUAL_JUMP = 0.6
"""Largest plausible daily log return of other kinds, -45% or +82% (0.35 is -30% or +42%). A 2-for-1 split is 0.693."""
JUMP_OF_MEDIAN = 25.0
"""Multiple of the median move: a volatility index with a median move of 4% doubled on one day (2018-02-05)."""
SPLIT_FROM = np.log(1.2)
"""Smallest log ratio of a split that differs from an ordinary day's move."""
STALE = 0.005
"""Largest difference at which an open repeats the previous close: prices are rounded to cents."""


@dataclass(frozen=True)
class InspectedBars:
    """An instrument's bars and the facts that rules use."""

    bars: pd.DataFrame
    instrument: Instrument
    calendar: Calendar | None
    now: datetime

    @cached_property
    def days(self) -> pd.DatetimeIndex:
        """Dates of the bars without a time of day, which only the contract checks."""
        return pd.DatetimeIndex(self.bars.index).normalize()

    @cached_property
    def in_calendar(self) -> Mask:
        """Mask of bars in the calendar's reliable period."""
        if self.calendar is None:
            return np.zeros(len(self.days), dtype=np.bool_)
        return np.asarray((self.days >= self.calendar.first) & (self.days <= self.calendar.last))

    @property
    def checked_span(self) -> str:
        """First and last day in the calendar's reliable period, as text."""
        days = self.days[self.in_calendar]
        return f"from {days.min():%Y-%m-%d} to {days.max():%Y-%m-%d} only" if len(days) else "on no day"

    @cached_property
    def returns(self) -> npt.NDArray[np.float64]:
        """Log return of the close on each bar; NaN if it is undefined."""
        close = self.bars["close"].to_numpy(dtype=np.float64)
        logs = np.log(np.where(np.isfinite(close) & (close > 0), close, np.nan))
        return np.diff(logs, prepend=np.nan)

    @cached_property
    def splits(self) -> npt.NDArray[np.float64]:
        """Log of the declared split ratio on each bar; 0 if there is none."""
        if "splits" not in self.bars.columns:
            return np.zeros(len(self.bars))
        ratio = self.bars["splits"].to_numpy(dtype=np.float64)
        return np.log(np.where(np.isfinite(ratio) & (ratio > 0), ratio, 1.0))

    @cached_property
    def jump(self) -> float:
        """Largest plausible log return of this instrument."""
        moves = np.abs(self.returns[np.isfinite(self.returns)])
        return max(JUMPS.get(self.instrument.kind, USUAL_JUMP), JUMP_OF_MEDIAN * float(np.median(moves)) if len(moves) else 0.0)

    @property
    def jump_range(self) -> str:
        """Plausible moves of the price as text, for example `-30% .. +42%`."""
        return f"{np.exp(-self.jump) - 1:+.0%} .. {np.exp(self.jump) - 1:+.0%}"

    @cached_property
    def stale(self) -> Mask:
        """Mask of bars whose open repeats the previous close."""
        opens, closes = (self.bars[column].to_numpy(dtype=np.float64) for column in ("open", "close"))
        return np.append(False, np.abs(opens[1:] - closes[:-1]) < STALE)

    @cached_property
    def stale_years(self) -> list[int]:
        """Years in which more than half of the opens repeat the previous close."""
        years = self.days.year.to_numpy()[1:]
        return [int(year) for year in np.unique(years) if self.stale[1:][years == year].mean() > 0.5]

    @property
    def stale_range(self) -> str:
        """`stale_years` as text, for example `1999-2005, 2008`."""
        runs: list[list[int]] = []
        for year in self.stale_years:
            if runs and year == runs[-1][-1] + 1:
                runs[-1].append(year)
            else:
                runs.append([year])
        return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)

    @property
    def stale_share(self) -> float:
        """Share of stale opens in `stale_years`."""
        within = np.isin(self.days.year.to_numpy()[1:], self.stale_years)
        return float(self.stale[1:][within].mean())


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A test for an error or an oddity in the bars of an instrument."""

    message: str
    """Description of a broken rule; `{days}` are the dates, `{c}` the `InspectedBars`."""
    days: Callable[[InspectedBars], pd.DatetimeIndex]
    """Function that returns the days on which the rule is broken."""
    fix: str = ""
    """Instruction for the user."""
    stops: frozenset[Kind] = NONE
    """Kinds of instrument for which the rule is an error; for other kinds it is a warning."""
    kinds: frozenset[Kind] = REAL
    """Kinds of instrument that the rule checks."""
    may_be_allowed: bool = True
    """True if `ALLOW=` may turn the error into a warning; False if such bars give no valid results."""

    def severity(self, kind: Kind) -> Severity:
        """Return the severity for this kind of instrument."""
        return "error" if kind in self.stops else "warning"

    def sentence(self, inspected: InspectedBars, days: pd.DatetimeIndex) -> str:
        """Return the message with its days, without symbol and fix."""
        return self.message.format(days=some_dates(days), c=inspected)


def contract_rule(rule: RowRule) -> Rule:
    """Return a rule of the contract as a validation rule."""
    return Rule(
        message=f"{rule.message} on {{days}}",
        days=lambda inspected: pd.DatetimeIndex(inspected.bars.index[rule.broken(inspected.bars)]),
        fix="correct the source and run `make data` again",
        kinds=KINDS,
        stops=KINDS,
        may_be_allowed=rule.may_be_allowed,
    )


def _future(inspected: InspectedBars) -> pd.DatetimeIndex:
    return inspected.days[session_closes(inspected.days, inspected.calendar) > pd.Timestamp(inspected.now)]


def _missing(inspected: InspectedBars) -> pd.DatetimeIndex:
    if inspected.calendar is None:
        return inspected.days[:0]
    return inspected.calendar.between(inspected.days.min(), inspected.days.max()).difference(inspected.days)


def _extra(inspected: InspectedBars) -> pd.DatetimeIndex:
    if inspected.calendar is None:
        return inspected.days[:0]
    return inspected.days[inspected.in_calendar & ~inspected.days.isin(inspected.calendar.sessions)]


def _unsplit(inspected: InspectedBars) -> Mask:
    """Return a mask of days whose close moves by the ratio of a declared split, or nearer to it than to no move."""
    unexplained = np.abs(inspected.returns + inspected.splits) < np.abs(inspected.returns)
    return np.asarray(unexplained & (np.abs(inspected.splits) >= SPLIT_FROM))


RULES: dict[str, Rule] = {
    **{name: contract_rule(rule) for name, rule in CONTRACT.items()},
    "future-bar": Rule(
        message="there are bars of sessions that have not ended, on {days}",
        days=_future,
        fix="correct their dates and run `make data` again",
        stops=KINDS,
        may_be_allowed=False,
    ),
    "missing-session": Rule(
        message="there is no bar on {days}, when {c.calendar.name} was open",
        days=_missing,
        fix="fetch these days again, or add their bars",
        stops=KINDS,
    ),
    "extra-session": Rule(
        message="there is a bar on {days}, when {c.calendar.name} was closed",
        days=_extra,
        fix="remove these bars, or give the right CALENDAR",
        stops=KINDS,
    ),
    "not-split-adjusted": Rule(
        message="the close jumps by the ratio of the declared split on {days}: prices are not split-adjusted",
        days=lambda inspected: inspected.days[_unsplit(inspected)],
        fix="adjust them, or give a file with PRICES=raw",
        stops=KINDS,
    ),
    "jump-without-split": Rule(
        message="the close leaves {c.jump_range} on {days} and no split explains it",
        days=lambda inspected: inspected.days[(np.abs(inspected.returns) > inspected.jump) & ~_unsplit(inspected)],
        fix="adjust prices for the split, or correct the wrong price",
        stops=KINDS,
    ),
    "zero-volume": Rule(
        message="volume is zero on {days}",
        days=lambda inspected: inspected.days[(inspected.bars["volume"] == 0).to_numpy()],
        fix="remove bars without a trade, or correct their volume",
        stops=frozenset({"fund", "stock"}),
    ),
    "flat-bar": Rule(
        message="the bar is flat on {days}",
        days=lambda inspected: inspected.days[(inspected.bars["high"] == inspected.bars["low"]).to_numpy()],
    ),
    "stale-open": Rule(
        message=(
            "open equals the previous close on {c.stale_share:.0%} of the days in {c.stale_range}; "
            "opening prices of these years carry no information"
        ),
        days=lambda inspected: inspected.days[inspected.stale & inspected.days.year.isin(inspected.stale_years)],
    ),
    "no-calendar": Rule(
        message="sessions are not checked, because no exchange calendar is known; give one with CALENDAR=",
        days=lambda inspected: inspected.days[: 0 if inspected.calendar else None],
    ),
    "unchecked-session": Rule(
        message="sessions are checked {c.checked_span}, because the calendar {c.calendar.name} is unreliable otherwise",
        days=lambda inspected: inspected.days[~inspected.in_calendar] if inspected.calendar else inspected.days[:0],
    ),
}
"""Every rule by the name that `ALLOW=` takes, in the order of the report."""

ALLOWABLE = [name for name, rule in RULES.items() if rule.stops and rule.may_be_allowed]
