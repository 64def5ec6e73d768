"""Refresh of a named data set: fetch from its source, compare with the newest snapshot, merge, and store."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

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
"""Sessions before the last stored bar that are fetched again: vendors correct a bar within days, seldom later."""
REMOTE = ("yahoo",)
"""Sources of which only the end of the history is fetched and whose withdrawn days are kept. A file is read as a whole."""


@dataclass(frozen=True, kw_only=True)
class RefreshResult:
    """A data set after `refresh`."""

    data_set: DataSet
    snapshot: Snapshot
    """Newest snapshot; the previous one if nothing has changed."""
    before: Snapshot | None
    """Newest snapshot before the refresh; None for a first one."""
    revisions: dict[str, BarRevisions]
    """Comparison of old and new bars per symbol that was stored before."""
    requests: list[Request]
    """Requests to the source, in order."""

    @property
    def unchanged(self) -> bool:
        """True if the bars equal the previous ones up to noise."""
        return self.before is not None and self.before.digest == self.snapshot.digest


def refresh(
    name: str,
    request: Request,
    root: Path,
    *,
    allow: Collection[str] = (),
    full: bool = False,
    now: datetime | None = None,
    on_request: Callable[[Request], None] = lambda request: None,
) -> RefreshResult:
    """Bring the data set up to date and store it below `root`; write nothing unless all symbols are valid.

    A remote source is asked only for the end of its history. The whole history is fetched if older days may have changed
    too, if the start of the request has moved, or if `full` is set. `allow` replaces the rules that were allowed before.
    `on_request` is called with each request before it is sent.
    """
    check_name(name)
    now = now or datetime.now(UTC)
    with data_set_lock(name, root):
        stored = read_data_set(name, root)
        source = stored.request.source if stored else request.source
        require(source == request.source, "NAME", name, f"this data set comes from {source}; give another NAME.")
        # A snapshot whose folder was deleted is built again.
        exists = stored is not None and (root / stored.digest).is_dir()
        before = load_snapshot(stored.digest, root) if stored and exists else None
        start_moved = stored is None or stored.request.start != request.start
        run = _Refresh(request, before, now, on_request)
        run.fetch(only_end=request.source in REMOTE and not full and not start_moved)
        allowed = tuple(sorted(allow)) or (stored.allow if stored else ())
        snapshot = write_snapshot(run.merged_bars(), root, now=now, allow=allowed, growth=run.growth())
        data_set = DataSet(name=name, request=request, allow=allowed, history=stored.history if stored else ())
        data_set = data_set.with_version(snapshot.digest, now.isoformat(timespec="seconds"))
        if data_set != stored:
            write_data_set(data_set, root)
    requests = [request for request, _ in run.answers]
    return RefreshResult(data_set=data_set, snapshot=snapshot, before=before, revisions=run.revisions, requests=requests)


class _Refresh:
    """One refresh in progress: requests, answers, and their comparison with the stored bars."""

    def __init__(self, request: Request, before: Snapshot | None, now: datetime, on_request: Callable[[Request], None]) -> None:
        self.request = request
        self.before = before
        self.now = now
        self.on_request = on_request
        # A request for a shorter period withdraws no bars, so bars outside it are left out of the comparison.
        start, end = (None if day is None else pd.Timestamp(day) for day in (request.start, request.end))
        stored = {symbol: bars.loc[start:end] for symbol, bars in before.bars.items()} if before else {}
        self.old = {symbol: bars for symbol, bars in stored.items() if len(bars)}
        self.answers: list[tuple[Request, SourceBars]] = []
        self.revisions: dict[str, BarRevisions] = {}
        self.bars: dict[str, pd.DataFrame] = {}

    def fetch(self, *, only_end: bool) -> None:
        """Fetch the end of stored histories if `only_end`, then the whole of every symbol that this does not settle."""
        stored = tuple(symbol for symbol in self.request.symbols if symbol in self.old) if only_end else ()
        if stored:
            since = min(self.old[symbol].index[-OVERLAP - 1 :][0] for symbol in stored)
            for symbol, bars in self._request(replace(self.request, symbols=stored, start=since.date())).items():
                revisions = self._compare(symbol, bars, since)
                if not revisions.requires_full_history(self.old[symbol].index[-1]):
                    self.revisions[symbol] = revisions
        rest = tuple(symbol for symbol in self.request.symbols if symbol not in self.revisions)
        if rest or not self.request.symbols:
            self.bars = dict(self._request(replace(self.request, symbols=rest)))
            for symbol in self.bars.keys() & self.old.keys():
                self.revisions[symbol] = self._compare(symbol, self.bars[symbol], None)
        self.bars |= {symbol: revisions.bars for symbol, revisions in self.revisions.items()}

    def _request(self, request: Request) -> dict[str, pd.DataFrame]:
        """Return the source's bars, validated with every rule allowed if they are to be compared with stored bars.

        The merged bars are validated in full when they are stored.
        """
        self.on_request(request)
        source_bars = source_named(request.source)(request)
        if self.old.keys().isdisjoint(source_bars.bars):
            self.answers.append((request, source_bars))
            return source_bars.bars
        validated = validate(source_bars, now=self.now, allow=ALLOWABLE)
        unclosed = [finding.sentence for finding in validated.findings if finding.rule == UNCLOSED]
        self.answers.append((request, replace(source_bars, notes=[*source_bars.notes, *unclosed])))
        return validated.bars

    def _compare(self, symbol: str, bars: pd.DataFrame, since: pd.Timestamp | None) -> BarRevisions:
        assert self.before is not None
        gone = frozenset(self.before.manifest.gone.get(symbol, ()))
        return compare(symbol, self.old[symbol], bars, since=since, keeps=self._keep_rule(symbol), gone=gone)

    def _keep_rule(self, symbol: str) -> Callable[[pd.Timestamp], bool]:
        """Return the test for days to keep that the source no longer has: a vendor's gap must not delete history."""
        if self.request.source not in REMOTE:
            return lambda day: False
        instrument = self.instruments.get(symbol, Instrument())
        calendar = calendar_named(instrument.calendar) if instrument.calendar else None
        return lambda day: calendar is None or day < calendar.first or day in calendar.sessions

    @property
    def instruments(self) -> dict[str, Instrument]:
        """Instruments by symbol; a later answer replaces an earlier one."""
        return {symbol: item for _, answer in self.answers for symbol, item in answer.instruments.items()}

    def merged_bars(self) -> SourceBars:
        """Return old and new bars as if one answer had brought them."""
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
        """Return the comparison in the form of the manifest."""
        changes = {
            symbol: {**revisions.counts, "listed": [asdict(change) for change in revisions.changes]}
            for symbol, revisions in self.revisions.items()
        }
        gone = {symbol: revisions.gone for symbol, revisions in self.revisions.items() if revisions.gone}
        return Growth(parent=self.before.digest if self.before else "", changes=changes, gone=gone)
