"""`make data`: bring bars in as an immutable snapshot, say what is new in them, and record it as a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.ingest_order import Order
    from research.data.refresh import Taken
    from research.data.snapshots import Snapshot
    from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """Take bars in as a named data set, bring one up to date, or verify a snapshot that is there.

    examples:
      make data SYMBOLS=SPY,QQQ,^VIX START=1993-01-29 NAME=etf
      make data DATA=etf
      make data DATA=prices.csv CALENDAR=XNYS COLUMNS=close=px_last,date=day
      python -m pipelines.ingest --data etf --full
    """

    data: str = ""
    """`bundled` (if nothing is said), a CSV or Parquet file or a folder of them, `synthetic`, the name of a data set to
    bring up to date, or the digest of a snapshot to verify."""
    symbols: str = ""
    """Instruments as Yahoo names them, with commas between; or those of a file to take."""
    start: date | None = None
    """First day; the earliest there is if not given."""
    end: date | None = None
    """Last day; the newest there is if not given."""
    name: str = ""
    """Name of the data set; after its symbols or its file if not given."""
    columns: str = ""
    """Unusual columns of a file: close=px_last,date=day."""
    calendar: str = ""
    """Exchange calendar of a file's bars, for example XNYS; sessions are not checked if not given."""
    kind: str = ""
    """What a file's instruments are: index, fund, stock, currency, crypto or other."""
    prices: str = ""
    """`split-adjusted` (if nothing is said) or `raw`: whether a file's prices before a split are divided by its ratio."""
    allow: str = ""
    """Rules of validation to accept as broken, with commas between; a data set remembers them."""
    timeout: float | None = None
    """Seconds that Yahoo may take for an answer."""
    full: bool = False
    """Ask for the whole history again instead of its end."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store."""


def ingest(data: str, store: Store) -> Snapshot:
    """The snapshot that `data` names, without a network: local sources are taken in on the spot, the rest is loaded.

    A name that is neither is an error; no source ever stands in for another.
    """
    from research.data.selection import selected
    from research.data.snapshots import load_snapshot, write_snapshot
    from research.data.sources import source_named

    choice = selected(data, store.snapshots)
    if isinstance(choice, str):
        return _recorded(load_snapshot(choice, store.snapshots), store)
    return _recorded(write_snapshot(source_named(choice.source)(choice), store.snapshots), store)


def _recorded(snapshot: Snapshot, store: Store, name: str = "") -> Snapshot:
    from pipelines.snapshot_run import record

    record(snapshot, store, name)
    return snapshot


def main(options: IngestOptions) -> None:
    """Take in, record, and print what was found."""
    from pipelines.ingest_order import order_of
    from pipelines.ingest_table import console, print_snapshot, print_taken
    from research.tracking.store import open_store

    screen = console()
    # Told before a store is made, so that a typo is answered at once.
    order = order_of(options, options.store.resolve() / "snapshots")
    store = open_store(options.store)
    if order.name:
        taken = _take(order, options, store, screen)
        _recorded(taken.snapshot, store, order.name)
        print_taken(taken, options.store, screen)
    else:
        print_snapshot(_recorded(_as_it_is(order, options, store), store), options.store, screen)


def _take(order: Order, options: IngestOptions, store: Store, screen: Console) -> Taken:
    """The named data set, brought up to date while a line says what is being asked for."""
    from pipelines.ingest_table import Asking
    from research.data.refresh import take

    assert order.request is not None
    with Asking(screen) as asking:
        return take(order.name, order.request, store.snapshots, allow=_rules(options), full=options.full, tell=asking.about)


def _as_it_is(order: Order, options: IngestOptions, store: Store) -> Snapshot:
    from research.data.snapshots import load_snapshot, write_snapshot
    from research.data.sources import source_named

    if order.request is None:
        return load_snapshot(order.digest, store.snapshots)
    return write_snapshot(source_named(order.request.source)(order.request), store.snapshots, allow=_rules(options))


def _rules(options: IngestOptions) -> list[str]:
    return [rule.strip() for rule in options.allow.split(",") if rule.strip()]


if __name__ == "__main__":
    from research.cli import run

    run(main, IngestOptions)
