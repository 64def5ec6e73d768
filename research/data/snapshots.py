"""Immutable snapshots: validated bars as Parquet and a manifest, in a folder named after their digest."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from research.data.bars import bars_digest, format_error
from research.data.sources import SourceBars
from research.data.validation import Validated, validate
from research.errors import InputError
from research.fingerprint import FINGERPRINT_LENGTH

BARS_FILE = "bars.parquet"
MANIFEST_FILE = "manifest.json"
DIGEST = f"[0-9a-f]{{{FINGERPRINT_LENGTH}}}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content and origin of a snapshot."""

    digest: str
    """Digest of canonical OHLCV; also the folder's name."""
    source: str
    """Name of the source."""
    request: dict[str, str]
    """Request to the source, as text."""
    licence: str
    """Terms of use."""
    versions: dict[str, str]
    """Versions of the libraries used."""
    created_at: str
    """UTC time at which the snapshot was written."""
    symbols: dict[str, dict[str, Any]]
    """Rows, first day, last day and digest, by symbol."""
    columns: list[str]
    """Columns of the Parquet file."""
    warnings: list[str]
    """Notes of the source and warnings of validation."""
    instruments: dict[str, dict[str, str]] = field(default_factory=dict)
    """Calendar, kind and currency that validation used, by symbol."""
    fetched_at: str = ""
    """UTC time at which the bars were fetched."""
    allowed: list[str] = field(default_factory=list)
    """Validation rules whose errors were accepted as warnings."""
    parent: str = ""
    """Digest of the previous snapshot; empty for a first one."""
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Days per status of `research.data.revisions` and the `listed` changes, by symbol of the parent."""
    gone: dict[str, list[str]] = field(default_factory=dict)
    """Kept days that the vendor no longer has, by symbol."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Difference between a snapshot and the previous one."""

    parent: str = ""
    """Digest of the previous snapshot; empty for a first one."""
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """As in `Manifest`."""
    gone: dict[str, list[str]] = field(default_factory=dict)
    """As in `Manifest`."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A verified snapshot in memory."""

    manifest: Manifest
    bars: dict[str, pd.DataFrame]
    """OHLCV and vendor columns indexed by date, by symbol."""
    folder: Path
    """Folder of the snapshot."""

    @property
    def digest(self) -> str:
        """Digest of the bars."""
        return self.manifest.digest

    def of(self, symbol: str) -> pd.DataFrame:
        """Return the bars of a symbol; raise `InputError` with the available symbols if it is missing."""
        if symbol not in self.bars:
            raise InputError(f"SYMBOL={symbol}: not in snapshot {self.digest}; give one of {', '.join(sorted(self.bars))}.")
        return self.bars[symbol]


def write_snapshot(
    source_bars: SourceBars,
    root: Path,
    *,
    now: datetime | None = None,
    allow: Collection[str] = (),
    growth: Growth | None = None,
) -> Snapshot:
    """Validate the bars and store them in `root/<digest>/`, once; return the stored snapshot.

    Bars that are stored already are not validated again. Raises `InputError` if a rule is broken and not in `allow`.
    """
    if not any(format_error(bars) for bars in source_bars.bars.values()):
        digest = bars_digest(source_bars.bars)
        if (root / digest).is_dir():
            return load_snapshot(digest, root)
    now = now or datetime.now(UTC)
    validated = validate(source_bars, now=now, allow=allow)
    digest = bars_digest(validated.bars)
    if not (root / digest).is_dir():
        manifest = _manifest(source_bars, validated, digest, sorted(allow), now, growth or Growth())
        _store(manifest, validated.bars, root)
    return load_snapshot(digest, root)


def _store(manifest: Manifest, bars: dict[str, pd.DataFrame], root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=root))
    try:
        _write_files(staging, manifest, bars)
        # A temporary folder is private; a snapshot must be readable for everyone who can read its parent folder.
        staging.chmod(0o755)
        os.replace(staging, root / manifest.digest)
    except OSError:
        # Another process may have stored the same content first.
        if not (root / manifest.digest).exists():
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_files(folder: Path, manifest: Manifest, bars: dict[str, pd.DataFrame]) -> None:
    table = pd.concat(bars, names=["symbol", "date"]).reset_index()
    table.to_parquet(folder / BARS_FILE, index=False)
    (folder / MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2) + "\n")


def _manifest(
    source_bars: SourceBars, validated: Validated, digest: str, allowed: list[str], now: datetime, growth: Growth
) -> Manifest:
    columns = dict.fromkeys(column for bars in validated.bars.values() for column in bars.columns)
    withdrawn = [
        f"{symbol}: {source_bars.source} no longer has {', '.join(days)}; the stored bars of these days are kept."
        for symbol, days in growth.gone.items()
        if days
    ]
    return Manifest(
        digest=digest,
        source=source_bars.source,
        request=source_bars.request,
        licence=source_bars.licence,
        versions={**source_bars.versions, "pandas": version("pandas"), "pyarrow": version("pyarrow")},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        symbols={symbol: _facts(symbol, bars) for symbol, bars in validated.bars.items()},
        columns=["symbol", "date", *columns],
        warnings=[*(finding.sentence for finding in validated.findings), *source_bars.notes, *withdrawn],
        instruments={symbol: asdict(instrument) for symbol, instrument in source_bars.instruments.items()},
        fetched_at=now.isoformat(timespec="seconds"),
        allowed=allowed,
        parent=growth.parent,
        changes=growth.changes,
        gone=growth.gone,
    )


def _facts(symbol: str, bars: pd.DataFrame) -> dict[str, Any]:
    first, last = (f"{day:%Y-%m-%d}" for day in bars.index[[0, -1]])
    return {"rows": len(bars), "first": first, "last": last, "digest": bars_digest({symbol: bars})}


def digests_in(root: Path) -> list[str]:
    """Return the digests of all snapshots, sorted."""
    return sorted(path.name for path in root.glob("*") if re.fullmatch(DIGEST, path.name) and path.is_dir())


def load_snapshot(digest: str, root: Path) -> Snapshot:
    """Read a snapshot and verify its digest; raise `InputError` if it is missing or damaged."""
    folder = root / digest
    if not re.fullmatch(DIGEST, digest) or not folder.is_dir():
        stored = ", ".join(digests_in(root)) or "none"
        raise InputError(f"DATA={digest}: no such snapshot (stored: {stored}); run `make data` to store the bundled bars.")
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST_FILE).read_text()))
        table = pd.read_parquet(folder / BARS_FILE)
        bars = {str(symbol): _of_one_symbol(part) for symbol, part in table.groupby("symbol", sort=True)}
        intact = manifest.digest == digest == bars_digest(bars)
    # Errors of the readers of a damaged file; pandas raises KeyError for a missing column.
    except (OSError, ValueError, TypeError, KeyError, AttributeError, pa.ArrowException) as error:
        raise _corrupted(folder, f"cannot be read ({type(error).__name__})") from error
    if not intact:
        raise _corrupted(folder, "no longer has the content of its digest")
    return Snapshot(manifest=manifest, bars=bars, folder=folder)


def _of_one_symbol(part: pd.DataFrame) -> pd.DataFrame:
    """Return a symbol's bars without the columns that only other symbols have."""
    bars = part.drop(columns="symbol").set_index("date").rename_axis("date")
    return bars.drop(columns=[column for column in bars.columns if bars[column].isna().all()])


def _corrupted(folder: Path, error: str) -> InputError:
    return InputError(f"DATA={folder.name}: the snapshot {error}; delete {folder} and run `make data` to store it again.")
