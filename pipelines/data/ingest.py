"""`make data`: store bars as an immutable snapshot, print what changed, and record the snapshot as a run."""

from __future__ import annotations

from pipelines.data.options import IngestOptions


def main(options: IngestOptions) -> None:
    """Fetch or load the bars, record their snapshot, and print it."""
    from pipelines.data.load_task import record_snapshot
    from pipelines.data.request import parse_request
    from pipelines.data.table import IngestProgress, print_refresh, print_snapshot
    from research.cli.console import console
    from research.data.refresh import refresh
    from research.data.snapshots import load_snapshot, write_snapshot
    from research.data.sources import source_named
    from research.tracking.store import open_store

    screen = console()
    # Options are checked before a store is made, so that a typo costs nothing.
    ingest = parse_request(options, options.store.resolve() / "snapshots")
    store = open_store(options.store)
    allow = [rule.strip() for rule in options.allow.split(",") if rule.strip()]
    if ingest.name:
        assert ingest.request is not None
        with IngestProgress(screen) as progress:
            result = refresh(
                ingest.name, ingest.request, store.snapshots, allow=allow, full=options.full, on_request=progress.print_request
            )
        record_snapshot(result.snapshot, store, ingest.name)
        print_refresh(result, options.store, screen)
    else:
        if ingest.request is None:
            snapshot = load_snapshot(ingest.digest, store.snapshots)
        else:
            snapshot = write_snapshot(source_named(ingest.request.source)(ingest.request), store.snapshots, allow=allow)
        print_snapshot(record_snapshot(snapshot, store), options.store, screen)
