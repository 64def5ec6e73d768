"""A snapshot's MLflow run, one per digest, with its manifest and the changes since its parent."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from research.data.revisions import DAY_STATUSES
from research.data.snapshots import Manifest, Snapshot
from research.tracking import schema
from research.tracking.run_writer import Input, RunLog
from research.tracking.store import Store

CHANGE_FIELDS = ("symbol", "day", "kind", "column", "old", "new")


def record(snapshot: Snapshot, store: Store, name: str = "") -> None:
    """Log the snapshot as a run unless it has one; `name` is the data set that it belongs to."""
    experiment = store.experiment(schema.SNAPSHOT_EXPERIMENT)
    if _runs(snapshot, store, experiment, "FINISHED"):
        return
    with FileLock(store.root / ".record.lock"):
        if _runs(snapshot, store, experiment, "FINISHED"):
            return
        # The writer of a run holds the lock, so a run that is still RUNNING belongs to a killed process.
        for run_id in _runs(snapshot, store, experiment, "RUNNING"):
            RunLog(store, run_id).finish("interrupted")
        _write(snapshot, store, experiment, name)


def _runs(snapshot: Snapshot, store: Store, experiment: str, status: str) -> list[str]:
    query = f"tags.{schema.SNAPSHOT_DIGEST} = '{snapshot.digest}' and attributes.status = '{status}'"
    return [run.info.run_id for run in store.client.search_runs([experiment], query)]


def _write(snapshot: Snapshot, store: Store, experiment: str, name: str) -> None:
    manifest = snapshot.manifest
    optional_tags = {schema.PARENT_DIGEST: manifest.parent, schema.DATA_SET: name}
    bars_input = Input(
        name=f"bars-{manifest.source}",
        digest=snapshot.digest,
        source=str(snapshot.folder),
        context="bars",
        profile=json.dumps(manifest.symbols),
    )
    log = RunLog.start(
        store,
        experiment_id=experiment,
        kind="snapshot",
        name=f"{name or manifest.source} {snapshot.digest}",
        params={
            "source": manifest.source,
            "symbols": ",".join(manifest.symbols),
            "licence": manifest.licence,
            "first": min(facts["first"] for facts in manifest.symbols.values()),
            "last": max(facts["last"] for facts in manifest.symbols.values()),
            "allowed": ",".join(manifest.allowed),
        },
        tags={
            schema.SNAPSHOT_DIGEST: snapshot.digest,
            schema.NOTE: _note(manifest),
            **{tag: value for tag, value in optional_tags.items() if value},
        },
        inputs=[bars_input],
    )
    try:
        log.artifacts(lambda folder: _write_files(folder, manifest))
        log.finish("complete", metrics=snapshot_metrics(manifest))
    except BaseException:
        log.finish("crashed")
        raise


def snapshot_metrics(manifest: Manifest) -> dict[str, float]:
    """Return counts over all symbols: symbols, rows, warnings, and days per status of the refresh."""
    days = {f"n_{status}": sum(counts.get(status, 0) for counts in manifest.changes.values()) for status in DAY_STATUSES}
    rows = sum(facts["rows"] for facts in manifest.symbols.values())
    return {"n_symbols": len(manifest.symbols), "n_rows": rows, "n_warnings": len(manifest.warnings), **days}


def _write_files(folder: Path, manifest: Manifest) -> None:
    (folder / schema.MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2) + "\n")
    if manifest.parent:
        with (folder / schema.CHANGES_FILE).open("w", newline="") as file:
            writer = csv.DictWriter(file, CHANGE_FIELDS)
            writer.writeheader()
            writer.writerows(change for counts in manifest.changes.values() for change in counts["listed"])


def _note(manifest: Manifest) -> str:
    parent = f" Replaces `{manifest.parent}`." if manifest.parent else ""
    lines = [f"Source **{manifest.source}**, licence: {manifest.licence}.{parent}", ""]
    return "\n".join(lines + [f"- {warning}" for warning in manifest.warnings])
