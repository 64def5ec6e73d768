"""What `make data` found: numbers first, then a table and sentences."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from research.cli.next_steps import with_store_argument
from research.data.refresh import RefreshResult
from research.data.revisions import DAY_STATUSES, Change
from research.data.snapshots import Snapshot
from research.data.sources import Request

PIPE_WIDTH = 140
MOST_LISTED = 12
"""Changes of one kind and symbol, and symbols of a request, that are printed; the manifest has all of them."""
COLUMNS = ("symbol", "rows", "first", "last")
SHOWN_ALWAYS = ("appended", "unchanged", "noise", "revised", "vanished")
LABEL = 11
"""Width of the first column of what is said line by line."""


@dataclass(frozen=True, kw_only=True)
class SymbolRow:
    """One instrument of the snapshot."""

    symbol: str
    rows: int
    first: str
    last: str
    counts: dict[str, int] | None
    """Days per word of the comparison; None where there was nothing to compare with."""


def symbol_rows(snapshot: Snapshot, taken: RefreshResult | None = None) -> list[SymbolRow]:
    """One row per instrument, in the snapshot's order."""
    compared = taken.comparisons if taken else {}
    return [
        SymbolRow(
            symbol=symbol,
            rows=facts["rows"],
            first=facts["first"],
            last=facts["last"],
            counts=compared[symbol].counts if symbol in compared else None,
        )
        for symbol, facts in snapshot.manifest.symbols.items()
    ]


def describe_refresh(taken: RefreshResult) -> str:
    """The data set's snapshot in one sentence."""
    digest, name = taken.snapshot.digest, taken.data_set.name
    if taken.unchanged:
        return f"{name}: nothing changed, snapshot {digest} as before"
    if taken.before is None:
        return f"{name}: first snapshot {digest}"
    was, is_ = set(taken.before.manifest.symbols), set(taken.snapshot.manifest.symbols)
    moved = {"with": is_ - was, "without": was - is_}
    told = [f"{word} {', '.join(sorted(symbols))}" for word, symbols in moved.items() if symbols]
    return ", ".join([f"{name}: snapshot {digest}, grown from {taken.before.digest}", *told])


def change_lines(taken: RefreshResult) -> list[tuple[str, str]]:
    """Label and sentence of all that is listed, the long lists cut."""
    groups: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for comparison in taken.comparisons.values():
        for change in comparison.listed:
            groups[change.kind, change.symbol].append(change)
    lines: list[tuple[str, str]] = []
    for (kind, symbol), changes in groups.items():
        lines += [(kind, describe_change(change)) for change in changes[:MOST_LISTED]]
        if len(changes) > MOST_LISTED:
            lines.append((kind, f"{symbol} and {len(changes) - MOST_LISTED:,} more, in the snapshot's manifest.json"))
    return lines


def describe_change(change: Change) -> str:
    """One change in words, its kind left out."""
    if change.kind == "rescaled":
        assert change.new is not None
        return f"{change.symbol} all prices before {change.day} x {change.new:.6g}, volume / {change.new:.6g}"
    end = {"vanished": "; the source no longer has it, it is kept", "dropped": "; the source no longer has it"}
    values = " -> ".join(_number(value) for value in (change.old, change.new))
    return f"{change.symbol} {change.day} {change.column} {values}{end.get(change.kind, '')}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,.6f}".rstrip("0").rstrip(".")


def data_table(rows: list[SymbolRow]) -> Table:
    """One line per instrument; words of the comparison that no day has are left out but for the usual ones."""
    compared = [row.counts for row in rows if row.counts]
    words = [word for word in DAY_STATUSES if compared and (word in SHOWN_ALWAYS or any(counts[word] for counts in compared))]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in (*COLUMNS, *words):
        table.add_column(column, justify="left" if column == "symbol" else "right", no_wrap=True)
    for row in rows:
        counts = ["new" if index == 0 else "" for index, _ in enumerate(words)] if row.counts is None else []
        counts = counts or [f"{row.counts[word]:,}" for word in words if row.counts]
        table.add_row(escape(row.symbol), f"{row.rows:,}", row.first, row.last, *counts)
    return table


def console() -> Console:
    """A console; a pipe has no width of its own and gets one that holds the table."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=PIPE_WIDTH)


def print_snapshot(snapshot: Snapshot, store: Path, screen: Console) -> None:
    """A snapshot that belongs to no data set."""
    manifest = snapshot.manifest
    _say(screen, "snapshot", f"{snapshot.digest} from source {manifest.source}, licence {manifest.licence}")
    screen.print(data_table(symbol_rows(snapshot)))
    _print_ending(snapshot, snapshot.digest, store, screen)


def print_refresh(taken: RefreshResult, store: Path, screen: Console) -> None:
    """A data set that was brought up to date."""
    manifest = taken.snapshot.manifest
    _say(screen, "data set", describe_refresh(taken))
    _say(screen, "source", f"{manifest.source}, licence {manifest.licence}")
    screen.print(data_table(symbol_rows(taken.snapshot, taken)))
    for label, sentence in change_lines(taken):
        _say(screen, label, sentence, style="yellow")
    _print_ending(taken.snapshot, taken.data_set.name, store, screen)


def _print_ending(snapshot: Snapshot, name: str, store: Path, screen: Console) -> None:
    for warning in snapshot.manifest.warnings:
        _say(screen, "warning", warning, style="yellow")
    _say(screen, "stored in", str(snapshot.folder))
    _say(screen, "next", with_store_argument(store, f"make sweep DATA={name} SYMBOL={next(iter(snapshot.manifest.symbols))}"))


class IngestProgress(logging.Handler):
    """Says what a source is asked for and when it makes us wait; in a terminal also which symbols have come."""

    def __init__(self, screen: Console):
        super().__init__(logging.DEBUG)
        self.screen = screen
        self._status = screen.status("asking")
        self._logger = logging.getLogger("research.data")

    def about(self, request: Request) -> None:
        """A request goes out."""
        shown, left = request.symbols[:MOST_LISTED], len(request.symbols) - MOST_LISTED
        subject = (",".join(shown) or "all that there is") + (f" and {left} more" if left > 0 else "")
        period = f" from {request.start}" if request.start else ""
        period += f" to {request.end}" if request.end else ""
        _say(self.screen, "asking", f"{request.source}: {subject}{period}")

    def emit(self, record: logging.LogRecord) -> None:
        """What the source's client tells while it works, from its own threads."""
        if record.levelno >= logging.INFO:
            _say(self.screen, "waiting", record.getMessage(), style="yellow")
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


def _say(screen: Console, label: str, text: str, style: str = "bold") -> None:
    screen.print(f"[{style}]{label}[/]{' ' * (LABEL - len(label))}{escape(text)}", soft_wrap=True, highlight=False)
