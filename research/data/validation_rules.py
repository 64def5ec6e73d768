"""The rules of validation, one table: what is looked for in the bars of one instrument, and what it means.

A jump is a daily log return of the close beyond `JUMPS`. Every day of the bundled indices (largest 0.133), 19 October 1987
(S&P 500 -0.229, Dow -0.256) and March 2020 (-0.128) stay inside. A volatility index moves more, so that the limit is never
below `JUMP_OF_MEDIAN` times the instrument's own median move.
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
"""Largest daily log return that is believed: -30% or +42%, and -45% or +82%. A split of 2 for 1 is 0.693."""
JUMP_OF_MEDIAN = 25.0
"""A volatility index doubles on one day (2018-02-05) when its median move is 4%."""
SPLIT_FROM = np.log(1.2)
"""Splits that move the price by less cannot be told from an ordinary day."""
STALE = 0.005
"""An open this near to the previous close repeats it: prices have cents."""


@dataclass(frozen=True)
class InspectedBars:
    """One instrument under examination: all that a rule may look at."""

    bars: pd.DataFrame
    instrument: Instrument
    calendar: Calendar | None
    now: datetime

    @cached_property
    def days(self) -> pd.DatetimeIndex:
        """Dates of the bars; a time of day is a matter of the contract alone."""
        return pd.DatetimeIndex(self.bars.index).normalize()

    @cached_property
    def known(self) -> Mask:
        """Bars on days of which the calendar knows whether the exchange was open."""
        if self.calendar is None:
            return np.zeros(len(self.days), dtype=np.bool_)
        return np.asarray((self.days >= self.calendar.first) & (self.days <= self.calendar.last))

    @property
    def checked_span(self) -> str:
        """First and last of those days as text."""
        days = self.days[self.known]
        return f"from {days.min():%Y-%m-%d} to {days.max():%Y-%m-%d} only" if len(days) else "on no day"

    @cached_property
    def returns(self) -> npt.NDArray[np.float64]:
        """Log return of the close on each bar, NaN where there is none."""
        close = self.bars["close"].to_numpy(dtype=np.float64)
        logs = np.log(np.where(np.isfinite(close) & (close > 0), close, np.nan))
        return np.diff(logs, prepend=np.nan)

    @cached_property
    def splits(self) -> npt.NDArray[np.float64]:
        """Log of the declared ratio on each bar, 0 where none is declared."""
        if "splits" not in self.bars.columns:
            return np.zeros(len(self.bars))
        ratio = self.bars["splits"].to_numpy(dtype=np.float64)
        return np.log(np.where(np.isfinite(ratio) & (ratio > 0), ratio, 1.0))

    @cached_property
    def jump(self) -> float:
        """Largest log return that is believed of this instrument."""
        moves = np.abs(self.returns[np.isfinite(self.returns)])
        return max(JUMPS.get(self.instrument.kind, USUAL_JUMP), JUMP_OF_MEDIAN * float(np.median(moves)) if len(moves) else 0.0)

    @property
    def jump_range(self) -> str:
        """The same as moves of the price, for example `-30% .. +42%`."""
        return f"{np.exp(-self.jump) - 1:+.0%} .. {np.exp(self.jump) - 1:+.0%}"

    @cached_property
    def stale(self) -> Mask:
        """Bars whose open repeats the previous close."""
        opens, closes = (self.bars[column].to_numpy(dtype=np.float64) for column in ("open", "close"))
        return np.append(False, np.abs(opens[1:] - closes[:-1]) < STALE)

    @cached_property
    def stale_years(self) -> list[int]:
        """Years in most of whose bars it does."""
        years = self.days.year.to_numpy()[1:]
        return [int(year) for year in np.unique(years) if self.stale[1:][years == year].mean() > 0.5]

    @property
    def stale_range(self) -> str:
        """Those years as text, for example `1999-2005, 2008`."""
        runs: list[list[int]] = []
        for year in self.stale_years:
            if runs and year == runs[-1][-1] + 1:
                runs[-1].append(year)
            else:
                runs.append([year])
        return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)

    @property
    def stale_share(self) -> float:
        """Share of bars of those years whose open says nothing."""
        within = np.isin(self.days.year.to_numpy()[1:], self.stale_years)
        return float(self.stale[1:][within].mean())


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One thing that may be wrong or odd with the bars of an instrument."""

    says: str
    """What is wrong; `{days}` are the dates, `{c}` the instrument under examination."""
    days: Callable[[InspectedBars], pd.DatetimeIndex]
    """The days on which it is."""
    fix: str = ""
    """What the user can do about it."""
    stops: frozenset[Kind] = NONE
    """Kinds of instrument that it stops; the others are warned."""
    kinds: frozenset[Kind] = REAL
    """Kinds of instrument that it looks at."""
    may_be_allowed: bool = True
    """Whether `ALLOW=` may turn the error into a warning; not where nothing sound can be computed."""

    def severity(self, kind: Kind) -> Severity:
        """What breaking the rule means for this kind of instrument."""
        return "error" if kind in self.stops else "warning"

    def sentence(self, checked: InspectedBars, days: pd.DatetimeIndex) -> str:
        """What is wrong and on which days, without symbol and fix."""
        return self.says.format(days=some_dates(days), c=checked)


def contract_rule(rule: RowRule) -> Rule:
    """A rule of the contract as an entry of this table."""
    return Rule(
        says=f"{rule.says} on {{days}}",
        days=lambda checked: pd.DatetimeIndex(checked.bars.index[rule.broken(checked.bars)]),
        fix="mend the source and ingest again",
        kinds=KINDS,
        stops=KINDS,
        may_be_allowed=rule.may_be_allowed,
    )


def _future(checked: InspectedBars) -> pd.DatetimeIndex:
    return checked.days[session_closes(checked.days, checked.calendar) > pd.Timestamp(checked.now)]


def _missing(checked: InspectedBars) -> pd.DatetimeIndex:
    if checked.calendar is None:
        return checked.days[:0]
    return checked.calendar.between(checked.days.min(), checked.days.max()).difference(checked.days)


def _extra(checked: InspectedBars) -> pd.DatetimeIndex:
    if checked.calendar is None:
        return checked.days[:0]
    return checked.days[checked.known & ~checked.days.isin(checked.calendar.sessions)]


def _unsplit(checked: InspectedBars) -> Mask:
    """Days on which the close falls by a declared split's ratio: nearer to that than to no move at all."""
    unexplained = np.abs(checked.returns + checked.splits) < np.abs(checked.returns)
    return np.asarray(unexplained & (np.abs(checked.splits) >= SPLIT_FROM))


RULES: dict[str, Rule] = {
    **{name: contract_rule(rule) for name, rule in CONTRACT.items()},
    "future-bar": Rule(
        says="there are bars of sessions that have not ended, on {days}",
        days=_future,
        fix="mend their dates and ingest again",
        stops=KINDS,
        may_be_allowed=False,
    ),
    "missing-session": Rule(
        says="there is no bar on {days}, when {c.calendar.name} was open",
        days=_missing,
        fix="ask for these days again, or add their bars",
        stops=KINDS,
    ),
    "extra-session": Rule(
        says="there is a bar on {days}, when {c.calendar.name} was closed",
        days=_extra,
        fix="take these bars out, or name the right CALENDAR",
        stops=KINDS,
    ),
    "not-split-adjusted": Rule(
        says="the close jumps by the ratio of the declared split on {days}: prices are not split-adjusted",
        days=lambda checked: checked.days[_unsplit(checked)],
        fix="adjust them, or give a file with PRICES=raw, which does it",
        stops=KINDS,
    ),
    "jump-without-split": Rule(
        says="the close leaves {c.jump_range} on {days} and no split says why",
        days=lambda checked: checked.days[(np.abs(checked.returns) > checked.jump) & ~_unsplit(checked)],
        fix="adjust prices for the split, or mend the wrong price",
        stops=KINDS,
    ),
    "zero-volume": Rule(
        says="volume is zero on {days}",
        days=lambda checked: checked.days[(checked.bars["volume"] == 0).to_numpy()],
        fix="take bars without a trade out, or mend their volume",
        stops=frozenset({"fund", "stock"}),
    ),
    "flat-bar": Rule(
        says="the bar is flat on {days}",
        days=lambda checked: checked.days[(checked.bars["high"] == checked.bars["low"]).to_numpy()],
    ),
    "stale-open": Rule(
        says=(
            "open equals the previous close on {c.stale_share:.0%} of the days in {c.stale_range}; "
            "opening prices of these years carry no information"
        ),
        days=lambda checked: checked.days[checked.stale & checked.days.year.isin(checked.stale_years)],
    ),
    "no-calendar": Rule(
        says="sessions are not checked, because no exchange calendar is known; name one with CALENDAR=",
        days=lambda checked: checked.days[: 0 if checked.calendar else None],
    ),
    "unchecked-session": Rule(
        says="sessions are checked {c.checked_span}, because the calendar {c.calendar.name} is unreliable otherwise",
        days=lambda checked: checked.days[~checked.known] if checked.calendar else checked.days[:0],
    ),
}
"""Every rule by the name that `ALLOW=` takes, in the order in which they are told."""

ALLOWABLE = [name for name, rule in RULES.items() if rule.stops and rule.may_be_allowed]
