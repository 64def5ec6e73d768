"""Immutable snapshots: validated bars as Parquet plus a manifest, in a folder named by their content."""

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
from research.data.validation import validate
from research.errors import InputError
from research.fingerprint import FINGERPRINT_LENGTH

BARS_FILE = "bars.parquet"
MANIFEST_FILE = "manifest.json"
DIGEST = f"[0-9a-f]{{{FINGERPRINT_LENGTH}}}"


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
    """What the source and validation said that a reader must know."""
    instruments: dict[str, dict[str, str]] = field(default_factory=dict)
    """Per symbol: calendar, kind and currency, as validation took them."""
    fetched_at: str = ""
    """UTC time at which the source was asked."""
    allowed: list[str] = field(default_factory=list)
    """Rules of validation that the user accepted as broken."""
    parent: str = ""
    """Digest of the snapshot that this one grew from; empty for a first one."""
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Per symbol that the parent has: days per word of `research.data.revisions`, and what is `listed`."""
    gone: dict[str, list[str]] = field(default_factory=dict)
    """Per symbol: days that the vendor no longer has and that are kept."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How a snapshot differs from the one before it."""

    parent: str = ""
    """Digest of the one before; empty for a first one."""
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """As in the manifest."""
    gone: dict[str, list[str]] = field(default_factory=dict)
    """As in the manifest."""


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


def write_snapshot(
    delivered: SourceBars,
    root: Path,
    *,
    now: datetime | None = None,
    allow: Collection[str] = (),
    growth: Growth | None = None,
) -> Snapshot:
    """Validate, then store under `root/<digest>/`; the same bars always land in the same folder, once.

    Bars that are stored already were validated then and are not looked at again.
    """
    if not any(format_error(bars) for bars in delivered.bars.values()):
        digest = bars_digest(delivered.bars)
        if (root / digest).is_dir():
            return load_snapshot(digest, root)
    now = now or datetime.now(UTC)
    validated = validate(delivered, now=now, allow=allow)
    digest = bars_digest(validated.bars)
    if not (root / digest).is_dir():
        said = [finding.sentence for finding in validated.findings]
        manifest = _manifest(delivered, validated.bars, digest, said, sorted(allow), now, growth or Growth())
        _store(manifest, validated.bars, root)
    return load_snapshot(digest, root)


def _store(manifest: Manifest, bars: dict[str, pd.DataFrame], root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=root))
    try:
        _fill(staging, manifest, bars)
        # A temporary folder is private; a snapshot on a shared disk is for everyone who may read its parent.
        staging.chmod(0o755)
        os.replace(staging, root / manifest.digest)
    except OSError:
        # Another process may have stored the same content first; anything else is a real failure.
        if not (root / manifest.digest).exists():
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fill(folder: Path, manifest: Manifest, bars: dict[str, pd.DataFrame]) -> None:
    table = pd.concat(bars, names=["symbol", "date"]).reset_index()
    table.to_parquet(folder / BARS_FILE, index=False)
    (folder / MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2) + "\n")


def _manifest(
    delivered: SourceBars,
    bars: dict[str, pd.DataFrame],
    digest: str,
    said: list[str],
    allowed: list[str],
    now: datetime,
    growth: Growth,
) -> Manifest:
    columns = dict.fromkeys(column for one in bars.values() for column in one.columns)
    return Manifest(
        digest=digest,
        source=delivered.source,
        request=delivered.request,
        licence=delivered.licence,
        versions={**delivered.versions, "pandas": version("pandas"), "pyarrow": version("pyarrow")},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        symbols={symbol: _facts(symbol, one) for symbol, one in bars.items()},
        columns=["symbol", "date", *columns],
        warnings=[*said, *delivered.notes, *_withdrawn(delivered.source, growth.gone)],
        instruments={symbol: asdict(one) for symbol, one in delivered.instruments.items()},
        fetched_at=now.isoformat(timespec="seconds"),
        allowed=allowed,
        parent=growth.parent,
        changes=growth.changes,
        gone=growth.gone,
    )


def _facts(symbol: str, bars: pd.DataFrame) -> dict[str, Any]:
    first, last = (f"{day:%Y-%m-%d}" for day in bars.index[[0, -1]])
    return {"rows": len(bars), "first": first, "last": last, "digest": bars_digest({symbol: bars})}


def _withdrawn(source: str, gone: dict[str, list[str]]) -> list[str]:
    return [
        f"{symbol}: {source} no longer has {', '.join(days)}; the bars that it had before are kept."
        for symbol, days in gone.items()
        if days
    ]


def digests_in(root: Path) -> list[str]:
    """Digests of all snapshots, sorted."""
    return sorted(path.name for path in root.glob("*") if re.fullmatch(DIGEST, path.name) and path.is_dir())


def load_snapshot(digest: str, root: Path) -> Snapshot:
    """Read and verify a snapshot; its content must still have the digest that names it."""
    folder = root / digest
    if not re.fullmatch(DIGEST, digest) or not folder.is_dir():
        known = ", ".join(digests_in(root)) or "none"
        raise InputError(f"DATA={digest}: no such snapshot (there are: {known}); run `make data` to make the bundled one.")
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST_FILE).read_text()))
        table = pd.read_parquet(folder / BARS_FILE)
        bars = {str(symbol): _of_one_symbol(part) for symbol, part in table.groupby("symbol", sort=True)}
        intact = manifest.digest == digest == bars_digest(bars)
    # What a damaged file makes its readers raise; pandas answers a missing column with KeyError.
    except (OSError, ValueError, TypeError, KeyError, AttributeError, pa.ArrowException) as problem:
        raise _corrupted(folder, f"cannot be read ({type(problem).__name__})") from problem
    if not intact:
        raise _corrupted(folder, "no longer has the content its name promises")
    return Snapshot(manifest=manifest, bars=bars, folder=folder)


def _of_one_symbol(part: pd.DataFrame) -> pd.DataFrame:
    """Its bars without the columns that only other symbols have."""
    bars = part.drop(columns="symbol").set_index("date").rename_axis("date")
    return bars.drop(columns=[column for column in bars.columns if bars[column].isna().all()])


def _corrupted(folder: Path, what: str) -> InputError:
    return InputError(f"snapshot {folder.name} {what}: delete {folder} and run `make data` to build it again.")
