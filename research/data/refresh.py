"""Taking a named data set in: ask its source, compare with the snapshot before, and store what follows from both."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from research.data.calendars import calendar_named
from research.data.data_sets import DataSet, check_name, data_set_lock, read_data_set, write_data_set
from research.data.revisions import BarRevisions, compare
from research.data.snapshots import Growth, Snapshot, load_snapshot, write_snapshot
from research.data.sources import Instrument, Request, SourceBars, source_named
from research.data.validation import UNCLOSED, validate
from research.data.validation_rules import ALLOWABLE
from research.errors import require

OVERLAP = 30
"""Sessions before the last known bar that are asked for again: vendors mend a bar within days, seldom later."""
REMOTE = ("yahoo",)
"""Sources that are asked for the end of their history alone, and whose withdrawn days are kept; a file is what it is."""


@dataclass(frozen=True, kw_only=True)
class RefreshResult:
    """A data set after `refresh`."""

    data_set: DataSet
    snapshot: Snapshot
    """The newest one, which is the one before where nothing has changed."""
    before: Snapshot | None
    """The newest one before; None for a first one."""
    comparisons: dict[str, BarRevisions]
    """What was found in each symbol that was there before."""
    asked: list[Request]
    """What the source was asked for, in order."""

    @property
    def unchanged(self) -> bool:
        """Whether the bars are, up to noise, those of before."""
        return self.before is not None and self.before.digest == self.snapshot.digest


def refresh(
    name: str,
    request: Request,
    root: Path,
    *,
    allow: Collection[str] = (),
    full: bool = False,
    now: datetime | None = None,
    tell: Callable[[Request], None] = lambda asked: None,
) -> RefreshResult:
    """Bring the data set up to date and store it below `root`; nothing is written unless all of it is sound.

    Only the end of a remote source's history is asked for, unless it shows that older days may have changed too, the
    request begins elsewhere, or `full` asks for everything. `allow` replaces the rules that were accepted before.
    `tell` hears of each request to the source before it is made.
    """
    check_name(name)
    now = now or datetime.now(UTC)
    with data_set_lock(name, root):
        known = read_data_set(name, root)
        old_source = known.request.source if known else request.source
        require(old_source == request.source, "NAME", name, f"this data set comes from {old_source}; give another NAME.")
        before = _newest(known, root)
        begins_elsewhere = known is None or known.request.start != request.start
        look = _Refresh(request, before, now, tell)
        look.refresh(in_part=request.source in REMOTE and not full and not begins_elsewhere)
        allowed = tuple(sorted(allow)) or (known.allow if known else ())
        snapshot = write_snapshot(look.delivered(), root, now=now, allow=allowed, growth=look.growth())
        data_set = DataSet(name=name, request=request, allow=allowed, history=known.history if known else ())
        data_set = data_set.with_version(snapshot.digest, now.isoformat(timespec="seconds"))
        if data_set != known:
            write_data_set(data_set, root)
    asked = [one for one, _ in look.answers]
    return RefreshResult(data_set=data_set, snapshot=snapshot, before=before, comparisons=look.comparisons, asked=asked)


def _newest(known: DataSet | None, root: Path) -> Snapshot | None:
    """The data set's snapshot; None where its folder was deleted, so that it is built again."""
    return load_snapshot(known.digest, root) if known and (root / known.digest).is_dir() else None


class _Refresh:
    """One look at the source: what was asked, what came, and how it compares with what was there."""

    def __init__(self, request: Request, before: Snapshot | None, now: datetime, tell: Callable[[Request], None]):
        self.request = request
        self.before = before
        self.now = now
        self.tell = tell
        self.old = {} if before is None else _within(request, before.bars)
        self.answers: list[tuple[Request, SourceBars]] = []
        self.comparisons: dict[str, BarRevisions] = {}
        self.bars: dict[str, pd.DataFrame] = {}

    def refresh(self, *, in_part: bool) -> None:
        """Ask for the end of what is known if `in_part`, then for all of whatever that does not settle."""
        growing = tuple(symbol for symbol in self.request.symbols if symbol in self.old) if in_part else ()
        if growing:
            since = min(self.old[symbol].index[-OVERLAP - 1 :][0] for symbol in growing)
            for symbol, bars in self._ask(replace(self.request, symbols=growing, start=since.date())).items():
                comparison = self._compare(symbol, bars, since)
                if not comparison.asks_for_all(self.old[symbol].index[-1]):
                    self.comparisons[symbol] = comparison
        rest = tuple(symbol for symbol in self.request.symbols if symbol not in self.comparisons)
        if rest or not self.request.symbols:
            self._take_whole(self._ask(replace(self.request, symbols=rest)))
        self.bars |= {symbol: comparison.bars for symbol, comparison in self.comparisons.items()}

    def _take_whole(self, delivered: dict[str, pd.DataFrame]) -> None:
        self.bars = dict(delivered)
        for symbol, bars in delivered.items():
            if symbol in self.old:
                self.comparisons[symbol] = self._compare(symbol, bars, None)

    def _ask(self, request: Request) -> dict[str, pd.DataFrame]:
        """What the source has, judged when old and new are one; sound enough for a comparison where there is to be one."""
        self.tell(request)
        delivered = source_named(request.source)(request)
        if self.old.keys().isdisjoint(delivered.bars):
            self.answers.append((request, delivered))
            return delivered.bars
        validated = validate(delivered, now=self.now, allow=ALLOWABLE)
        unclosed = [finding.sentence for finding in validated.findings if finding.rule == UNCLOSED]
        self.answers.append((request, replace(delivered, notes=[*delivered.notes, *unclosed])))
        return validated.bars

    def _compare(self, symbol: str, bars: pd.DataFrame, since: pd.Timestamp | None) -> BarRevisions:
        assert self.before is not None
        gone = frozenset(self.before.manifest.gone.get(symbol, ()))
        return compare(symbol, self.old[symbol], bars, since=since, keeps=self._keeper(symbol), gone=gone)

    def _keeper(self, symbol: str) -> Callable[[pd.Timestamp], bool]:
        """Whether a day that the source no longer has stays: a vendor's gap must not tear a hole into the past."""
        if self.request.source not in REMOTE:
            return lambda day: False
        instrument = self.instruments.get(symbol, Instrument())
        calendar = calendar_named(instrument.calendar) if instrument.calendar else None
        return lambda day: calendar is None or day < calendar.first or day in calendar.sessions

    @property
    def instruments(self) -> dict[str, Instrument]:
        """What the answers say of each symbol, the later ones counting."""
        return {symbol: one for _, answer in self.answers for symbol, one in answer.instruments.items()}

    def delivered(self) -> SourceBars:
        """Old and new as if one answer had brought them."""
        _, last = self.answers[-1]
        symbols = self.request.symbols or tuple(self.bars)
        whole = {"symbols": ",".join(symbols), "start": str(self.request.start or "earliest")}
        return replace(
            last,
            bars={symbol: self.bars[symbol] for symbol in symbols},
            request={name: whole.get(name, text) for name, text in last.request.items()},
            instruments=self.instruments,
            notes=list(dict.fromkeys(note for _, answer in self.answers for note in answer.notes)),
        )

    def growth(self) -> Growth:
        """The comparison as the manifest holds it."""
        changes = {symbol: _plain(comparison) for symbol, comparison in self.comparisons.items()}
        gone = {symbol: comparison.gone for symbol, comparison in self.comparisons.items() if comparison.gone}
        return Growth(parent=self.before.digest if self.before else "", changes=changes, gone=gone)


def _within(request: Request, bars: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Bars of the request's period: a request that was narrowed withdraws nothing."""
    start, end = (None if day is None else pd.Timestamp(day) for day in (request.start, request.end))
    cut = {symbol: one.loc[start:end] for symbol, one in bars.items()}
    return {symbol: one for symbol, one in cut.items() if len(one)}


def _plain(comparison: BarRevisions) -> dict[str, Any]:
    return {**comparison.counts, "listed": [asdict(change) for change in comparison.listed]}
