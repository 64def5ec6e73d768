"""`make data`: bring bars in as an immutable snapshot and record it as a run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from research.data.snapshots import Snapshot
    from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """Store the bars of a source as a snapshot, or verify one that is there.

    Example: python -m pipelines.ingest --data bundled
    """

    data: str = "bundled"
    """`bundled`, or the digest of a snapshot to verify."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store."""


def ingest(data: str, store: Store) -> Snapshot:
    """The snapshot that `data` names: a source's name brings it in, a digest loads and verifies it.

    A name that is neither is an error; no source ever stands in for another.
    """
    from research.data.snapshots import load_snapshot, write_snapshot
    from research.data.sources import SOURCES
    from research.spec import InputError

    if data in SOURCES:
        snapshot = write_snapshot(SOURCES[data](), store.snapshots)
    elif (store.snapshots / data).is_dir() or _looks_like_digest(data):
        snapshot = load_snapshot(data, store.snapshots)
    else:
        raise InputError(f"DATA={data}: no such source; give {' or '.join(SOURCES)}, or a snapshot's digest.")
    _record(snapshot, store)
    return snapshot


def _looks_like_digest(text: str) -> bool:
    from research.spec import FINGERPRINT_LENGTH

    return len(text) == FINGERPRINT_LENGTH and set(text) <= set("0123456789abcdef")


def _record(snapshot: Snapshot, store: Store) -> None:
    """Log the snapshot as a run, once per digest."""
    from research.tracking import schema
    from research.tracking.runs import Input, RunLog

    experiment = store.experiment(schema.SNAPSHOT_EXPERIMENT)
    known = f"tags.{schema.SNAPSHOT_DIGEST} = '{snapshot.digest}' and attributes.status = 'FINISHED'"
    if store.client.search_runs([experiment], known, max_results=1):
        return
    manifest = snapshot.manifest
    rows = {f"rows_{symbol.strip('^')}": facts["rows"] for symbol, facts in manifest.symbols.items()}
    log = RunLog.start(
        store,
        experiment_id=experiment,
        kind="snapshot",
        name=f"{manifest.source} {snapshot.digest}",
        params={"source": manifest.source, "symbols": ",".join(manifest.symbols), "licence": manifest.licence, **rows},
        tags={schema.SNAPSHOT_DIGEST: snapshot.digest, schema.NOTE: _note(snapshot)},
        inputs=[
            Input(
                name=f"bars-{manifest.source}",
                digest=snapshot.digest,
                source=str(snapshot.folder),
                context="bars",
                profile=json.dumps(manifest.symbols),
            )
        ],
    )
    log.artifacts(lambda folder: _write_manifest(folder, snapshot))
    log.finish("complete", metrics={"n_symbols": len(manifest.symbols), "n_warnings": len(manifest.warnings)})


def _write_manifest(folder: Path, snapshot: Snapshot) -> None:
    (folder / "manifest.json").write_text(json.dumps(asdict(snapshot.manifest), indent=2) + "\n")


def _note(snapshot: Snapshot) -> str:
    lines = [f"Source **{snapshot.manifest.source}**, licence: {snapshot.manifest.licence}.", ""]
    return "\n".join(lines + [f"- {warning}" for warning in snapshot.manifest.warnings])


def main(options: IngestOptions) -> None:
    """Ingest and print what was found."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from research.tracking.store import open_store

    console = Console()
    snapshot = ingest(options.data, open_store(options.store))
    manifest = snapshot.manifest
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("symbol", "rows", "first", "last"):
        table.add_column(column, justify="left" if column == "symbol" else "right")
    for symbol, facts in manifest.symbols.items():
        table.add_row(symbol, f"{facts['rows']:,}", facts["first"], facts["last"])
    console.print(f"snapshot {snapshot.digest} from source {manifest.source}, licence {manifest.licence}", soft_wrap=True)
    console.print(table)
    for warning in manifest.warnings:
        console.print(f"[yellow]warning[/] {warning}", soft_wrap=True, highlight=False)
    console.print(f"stored in {snapshot.folder}", soft_wrap=True, highlight=False)
    console.print(f"next  make sweep DATA={snapshot.digest}", highlight=False)


if __name__ == "__main__":
    from research.cli import run

    run(main, IngestOptions)
