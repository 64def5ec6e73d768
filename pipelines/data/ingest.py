"""`make data`: bring bars in as an immutable snapshot, say what is new in them, and record it as a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.data.options import IngestOptions

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.data.request import IngestRequest
    from research.data.refresh import RefreshResult
    from research.data.snapshots import Snapshot
    from research.tracking.store import Store


def main(options: IngestOptions) -> None:
    """Take in, record, and print what was found."""
    from pipelines.data.load_task import record_snapshot
    from pipelines.data.request import parse_request
    from pipelines.data.table import console, print_refresh, print_snapshot
    from research.tracking.store import open_store

    screen = console()
    # Told before a store is made, so that a typo is answered at once.
    order = parse_request(options, options.store.resolve() / "snapshots")
    store = open_store(options.store)
    if order.name:
        taken = _take(order, options, store, screen)
        record_snapshot(taken.snapshot, store, order.name)
        print_refresh(taken, options.store, screen)
    else:
        print_snapshot(record_snapshot(_as_it_is(order, options, store), store), options.store, screen)


def _take(order: IngestRequest, options: IngestOptions, store: Store, screen: Console) -> RefreshResult:
    """The named data set, brought up to date while a line says what is being asked for."""
    from pipelines.data.table import IngestProgress
    from research.data.refresh import refresh

    assert order.request is not None
    with IngestProgress(screen) as asking:
        return refresh(order.name, order.request, store.snapshots, allow=_rules(options), full=options.full, tell=asking.about)


def _as_it_is(order: IngestRequest, options: IngestOptions, store: Store) -> Snapshot:
    from research.data.snapshots import load_snapshot, write_snapshot
    from research.data.sources import source_named

    if order.request is None:
        return load_snapshot(order.digest, store.snapshots)
    return write_snapshot(source_named(order.request.source)(order.request), store.snapshots, allow=_rules(options))


def _rules(options: IngestOptions) -> list[str]:
    return [rule.strip() for rule in options.allow.split(",") if rule.strip()]


if __name__ == "__main__":
    from research.cli.run import run

    run(main, IngestOptions)
