"""Immutable snapshots: validated bars as Parquet plus a manifest, in a folder named by their content."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from research.data.bars import bars_digest, check_bars, warnings_of
from research.data.sources import SourceBars
from research.spec import FINGERPRINT_LENGTH, InputError

BARS_FILE = "bars.parquet"
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a snapshot holds and where it came from."""

    digest: str
    """Content digest of canonical OHLCV; also the folder's name."""
    source: str
    """Name of the source."""
    request: dict[str, str]
    """What was asked of the source."""
    licence: str
    """Terms of use."""
    versions: dict[str, str]
    """Library versions that took part."""
    created_at: str
    """UTC time of the first ingestion."""
    symbols: dict[str, dict[str, Any]]
    """Per symbol: rows, first, last."""
    columns: list[str]
    """Columns of the Parquet file."""
    warnings: list[str]
    """What validation found that a reader must know."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A verified snapshot in memory."""

    manifest: Manifest
    bars: dict[str, pd.DataFrame]
    """Per symbol: OHLCV (and vendor columns) indexed by date."""
    folder: Path
    """Where it lies."""

    @property
    def digest(self) -> str:
        """Content digest."""
        return self.manifest.digest

    def of(self, symbol: str) -> pd.DataFrame:
        """Bars of one symbol; `InputError` lists the symbols there are."""
        if symbol not in self.bars:
            raise InputError(f"SYMBOL={symbol}: snapshot {self.digest} has {', '.join(sorted(self.bars))}.")
        return self.bars[symbol]


def write_snapshot(delivered: SourceBars, root: Path) -> Snapshot:
    """Validate, then store under `root/<digest>/`; the same bars always land in the same folder, once."""
    for symbol, bars in delivered.bars.items():
        check_bars(bars, symbol)
    digest = bars_digest(delivered.bars)
    if (root / digest).exists():
        return load_snapshot(digest, root)
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=root))
    try:
        _fill(staging, delivered, digest)
        # A temporary folder is private; a snapshot on a shared disk is for everyone who may read its parent.
        staging.chmod(0o755)
        os.replace(staging, root / digest)
    except OSError:
        # Another process may have stored the same content first; anything else is a real failure.
        if not (root / digest).exists():
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_snapshot(digest, root)


def _fill(folder: Path, delivered: SourceBars, digest: str) -> None:
    table = pd.concat(delivered.bars, names=["symbol", "date"]).reset_index()
    table.to_parquet(folder / BARS_FILE, index=False)
    manifest = Manifest(
        digest=digest,
        source=delivered.source,
        request=delivered.request,
        licence=delivered.licence,
        versions={**delivered.versions, "pandas": version("pandas"), "pyarrow": version("pyarrow")},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        symbols={
            symbol: {"rows": len(bars), "first": f"{bars.index[0]:%Y-%m-%d}", "last": f"{bars.index[-1]:%Y-%m-%d}"}
            for symbol, bars in delivered.bars.items()
        },
        columns=list(table.columns),
        warnings=[warning for symbol, bars in delivered.bars.items() for warning in warnings_of(bars, symbol)],
    )
    (folder / MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2) + "\n")


def load_snapshot(digest: str, root: Path) -> Snapshot:
    """Read and verify a snapshot; its content must still have the digest that names it."""
    folder = root / digest
    if not re.fullmatch(f"[0-9a-f]{{{FINGERPRINT_LENGTH}}}", digest) or not folder.is_dir():
        known = ", ".join(sorted(path.name for path in root.glob("*") if not path.name.startswith("."))) or "none"
        raise InputError(f"DATA={digest}: no such snapshot (there are: {known}); run `make data` to make the bundled one.")
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST_FILE).read_text()))
        table = pd.read_parquet(folder / BARS_FILE)
        bars = {
            str(symbol): part.drop(columns="symbol").set_index("date").rename_axis("date")
            for symbol, part in table.groupby("symbol", sort=True)
        }
        intact = manifest.digest == digest == bars_digest(bars)
    # What a damaged file makes its readers raise; pandas answers a missing column with KeyError.
    except (OSError, ValueError, TypeError, KeyError, AttributeError, pa.ArrowException) as problem:
        raise _corrupted(folder, f"cannot be read ({type(problem).__name__})") from problem
    if not intact:
        raise _corrupted(folder, "no longer has the content its name promises")
    return Snapshot(manifest=manifest, bars=bars, folder=folder)


def _corrupted(folder: Path, what: str) -> InputError:
    return InputError(f"snapshot {folder.name} {what}: delete {folder} and run `make data` to build it again.")
