"""What `make data` prints: a table of the snapshot, its changes and warnings, and the progress of a request."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from research.cli.console import plain_table, print_line
from research.cli.next_steps import with_store_argument
from research.data.refresh import RefreshResult
from research.data.revisions import DAY_STATUSES, BarRevisions, Change
from research.data.snapshots import Snapshot
from research.data.sources import Request

LIST_LIMIT = 12
"""Largest number of changes per kind and symbol, and of symbols per request, that are printed. The manifest lists all."""
SHOWN_ALWAYS = ("appended", "unchanged", "noise", "revised", "vanished")
LABEL_WIDTH = 11
"""Width of the labels at the start of printed lines, in characters."""


def describe_refresh(result: RefreshResult) -> str:
    """Return one sentence on the data set's newest snapshot and the one before."""
    digest, name = result.snapshot.digest, result.data_set.name
    if result.unchanged:
        return f"{name}: nothing changed, snapshot is still {digest}"
    if result.before is None:
        return f"{name}: first snapshot {digest}"
    before, after = set(result.before.manifest.symbols), set(result.snapshot.manifest.symbols)
    symbols = {"with": after - before, "without": before - after}
    moves = [f"{word} {', '.join(sorted(names))}" for word, names in symbols.items() if names]
    return ", ".join([f"{name}: snapshot {digest}, replaces {result.before.digest}", *moves])


def change_lines(result: RefreshResult) -> list[tuple[str, str]]:
    """Return label and sentence of every listed change, at most `LIST_LIMIT` per kind and symbol."""
    groups: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for revisions in result.revisions.values():
        for change in revisions.changes:
            groups[change.kind, change.symbol].append(change)
    lines: list[tuple[str, str]] = []
    for (kind, symbol), changes in groups.items():
        lines += [(kind, describe_change(change)) for change in changes[:LIST_LIMIT]]
        if len(changes) > LIST_LIMIT:
            lines.append((kind, f"{symbol} and {len(changes) - LIST_LIMIT:,} more, in the snapshot's manifest.json"))
    return lines


def describe_change(change: Change) -> str:
    """Return a change as text without its kind, for example `SPY 2020-01-02 close 1 -> 2`."""
    if change.kind == "rescaled":
        assert change.new is not None
        return f"{change.symbol} all prices before {change.day} x {change.new:.6g}, volume / {change.new:.6g}"
    end = {"vanished": "; missing at the source, kept", "dropped": "; missing at the source, dropped"}
    old, new = ("none" if value is None else f"{value:,.6f}".rstrip("0").rstrip(".") for value in (change.old, change.new))
    return f"{change.symbol} {change.day} {change.column} {old} -> {new}{end.get(change.kind, '')}"


def data_table(snapshot: Snapshot, revisions: dict[str, BarRevisions] | None = None) -> Table:
    """Return a table with one line per instrument: rows, first and last day, and days per status after a refresh.

    Statuses that no day has are left out, except those in `SHOWN_ALWAYS`.
    """
    counts = {symbol: revision.counts for symbol, revision in (revisions or {}).items()}
    statuses = [
        status
        for status in DAY_STATUSES
        if counts and (status in SHOWN_ALWAYS or any(days[status] for days in counts.values()))
    ]
    table = plain_table("", ("symbol", "rows", "first", "last", *statuses), left=("symbol",))
    for symbol, facts in snapshot.manifest.symbols.items():
        if symbol in counts:
            cells = [f"{counts[symbol][status]:,}" for status in statuses]
        else:
            cells = ["new", *[""] * (len(statuses) - 1)] if statuses else []
        table.add_row(escape(symbol), f"{facts['rows']:,}", facts["first"], facts["last"], *cells)
    return table


def print_snapshot(snapshot: Snapshot, store: Path, screen: Console) -> None:
    """Print a snapshot without a data set."""
    manifest = snapshot.manifest
    _print_labelled(screen, "snapshot", f"{snapshot.digest} from source {manifest.source}, licence {manifest.licence}")
    screen.print(data_table(snapshot))
    _print_ending(snapshot, snapshot.digest, store, screen)


def print_refresh(result: RefreshResult, store: Path, screen: Console) -> None:
    """Print a data set after a refresh."""
    manifest = result.snapshot.manifest
    _print_labelled(screen, "data set", describe_refresh(result))
    _print_labelled(screen, "source", f"{manifest.source}, licence {manifest.licence}")
    screen.print(data_table(result.snapshot, result.revisions))
    for label, sentence in change_lines(result):
        _print_labelled(screen, label, sentence, style="yellow")
    _print_ending(result.snapshot, result.data_set.name, store, screen)


def _print_ending(snapshot: Snapshot, name: str, store: Path, screen: Console) -> None:
    for warning in snapshot.manifest.warnings:
        _print_labelled(screen, "warning", warning, style="yellow")
    _print_labelled(screen, "stored in", str(snapshot.folder))
    command = f"make sweep DATA={name} SYMBOL={next(iter(snapshot.manifest.symbols))}"
    _print_labelled(screen, "next", with_store_argument(store, command))


class IngestProgress(logging.Handler):
    """Printer of requests and waits; in a terminal it also shows which symbols have arrived."""

    def __init__(self, screen: Console):
        super().__init__(logging.DEBUG)
        self.screen = screen
        self._status = screen.status("fetching")
        self._logger = logging.getLogger("research.data")

    def print_request(self, request: Request) -> None:
        """Print a request before it is sent."""
        shown, left = request.symbols[:LIST_LIMIT], len(request.symbols) - LIST_LIMIT
        symbols = (",".join(shown) or "all symbols") + (f" and {left} more" if left > 0 else "")
        period = f" from {request.start}" if request.start else ""
        period += f" to {request.end}" if request.end else ""
        _print_labelled(self.screen, "fetching", f"{request.source}: {symbols}{period}")

    def emit(self, record: logging.LogRecord) -> None:
        """Print a wait, or show an arrived symbol; the source's client logs both from its own threads."""
        if record.levelno >= logging.INFO:
            _print_labelled(self.screen, "waiting", record.getMessage(), style="yellow")
        else:
            self._status.update(escape(record.getMessage()))

    def __enter__(self) -> Self:
        self._level = self._logger.level
        self._logger.setLevel(logging.DEBUG)
        self._logger.addHandler(self)
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)


def _print_labelled(screen: Console, label: str, text: str, style: str = "bold") -> None:
    print_line(screen, f"[{style}]{label}[/]{' ' * (LABEL_WIDTH - len(label))}{escape(text)}")
