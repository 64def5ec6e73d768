"""Load bars and build the task of a sweep."""

from __future__ import annotations

from research.data.snapshots import Snapshot
from research.task.build import assemble
from research.task.options import TaskOptions
from research.task.task import Task, build_task, require_same_clock
from research.tracking.store import Store


def load_task(options: TaskOptions, store: Store) -> Task:
    """Load the bars, compute features and split; raise `InputError` if the data are below the evidence floor."""
    snapshot = ingest(options.data, store)
    require_same_clock(options, snapshot)
    data = assemble(options, snapshot.bars, digest=snapshot.digest, source=snapshot.manifest.source)
    return build_task(options, snapshot, data)


def ingest(data: str, store: Store) -> Snapshot:
    """Return the snapshot that `DATA=` selects, without a network, and record it.

    Bars of a local source are validated and stored first. An unknown name raises `InputError`: no source replaces another.
    """
    from research.data.data_argument import parse_data_argument
    from research.data.snapshots import load_snapshot, write_snapshot
    from research.data.sources import source_named

    choice = parse_data_argument(data, store.snapshots)
    if isinstance(choice, str):
        return record_snapshot(load_snapshot(choice, store.snapshots), store)
    return record_snapshot(write_snapshot(source_named(choice.source)(choice), store.snapshots), store)


def record_snapshot(snapshot: Snapshot, store: Store, name: str = "") -> Snapshot:
    """Record a snapshot as a run, once per store, and return it."""
    from pipelines.data.snapshot_run import record

    record(snapshot, store, name)
    return snapshot
