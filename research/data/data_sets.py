"""Named data sets: a JSON file per name with the request to its source and the digests of its snapshots."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from research.data.sources import SOURCES, Request, slug
from research.errors import InputError, require
from research.fingerprint import FINGERPRINT_LENGTH

SHORTEST_PREFIX = 6
"""Smallest number of letters of a digest that select a snapshot."""
LOCKS = ".locks"
"""Folder of lock files; free ones stay there."""
SYMBOLS_IN_NAME = 4
"""Largest number of symbols in a default name."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """A snapshot in the history of a data set."""

    digest: str
    at: str
    """UTC time at which the snapshot became the newest."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A name, the request to its source, and its snapshots."""

    name: str
    request: Request
    """Request that a refresh repeats."""
    allow: tuple[str, ...] = ()
    """Validation rules whose errors are warnings for this data set."""
    history: tuple[Version, ...] = ()
    """Snapshots, oldest first; the name selects the last one."""

    @property
    def digest(self) -> str:
        """Digest of the newest snapshot."""
        return self.history[-1].digest

    def with_version(self, digest: str, at: str) -> DataSet:
        """Return the data set with this snapshot as the newest; unchanged if it is the newest already."""
        if self.history and self.digest == digest:
            return self
        return replace(self, history=(*self.history, Version(digest=digest, at=at)))


def check_name(name: str) -> None:
    """Raise `InputError` if `DATA=` would read the name as something else, or it is not a valid file name."""
    fix = "not a valid name; give lower-case letters, digits, - and _, a letter or digit first, 64 at most."
    require(re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", name) is not None, "NAME", name, fix)
    require(name not in SOURCES, "NAME", name, "a source has this name; give another name.")
    digest_like = re.fullmatch(f"[0-9a-f]{{{SHORTEST_PREFIX},{FINGERPRINT_LENGTH}}}", name) is not None
    require(not digest_like, "NAME", name, "looks like a snapshot's digest; give a name with a letter from g to z.")


def default_name(request: Request) -> str:
    """Return a name made from the symbols, or from the file."""
    if request.source == "file":
        return re.sub("[^a-z0-9_]+", "-", Path(request.settings["path"]).name.split(".")[0].lower()).strip("-_")
    names = [slug(symbol) for symbol in request.symbols]
    left = len(names) - SYMBOLS_IN_NAME
    return "-".join(names if left <= 0 else [*names[:SYMBOLS_IN_NAME], f"{left}-more"])


def read_data_set(name: str, root: Path) -> DataSet | None:
    """Return the data set of that name, or None if there is none; raise `InputError` if its file is damaged."""
    path = root / f"{name}.json"
    if not re.fullmatch("[a-z0-9_-]+", name) or not path.is_file():
        return None
    try:
        return _from_plain(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"DATA={name}: {path} cannot be read ({type(error).__name__}); delete it (its snapshots stay) and run "
            "`make data` with the data set's SYMBOLS= or DATA=path again."
        ) from error


def write_data_set(data_set: DataSet, root: Path) -> None:
    """Write or replace the data set's file atomically."""
    plain = asdict(data_set)
    for field in ("start", "end"):
        day = plain["request"][field]
        plain["request"][field] = day and day.isoformat()
    handle, staging = tempfile.mkstemp(prefix=".staging-", dir=root)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(plain, indent=2) + "\n")
        os.chmod(staging, 0o644)
        os.replace(staging, root / f"{data_set.name}.json")
    finally:
        Path(staging).unlink(missing_ok=True)


def newest_after(digest: str, root: Path) -> str:
    """Return the newest snapshot of the data set that contains this snapshot; the digest itself if there is none."""
    data_sets = [data_set for name in data_set_names(root) if (data_set := read_data_set(name, root))]
    newest = [item.history[-1] for item in data_sets if digest in {version.digest for version in item.history}]
    return max(newest, key=lambda version: version.at).digest if newest else digest


def data_set_names(root: Path) -> list[str]:
    """Return the names of all data sets, sorted."""
    return sorted(path.stem for path in root.glob("[!.]*.json"))


@contextmanager
def data_set_lock(name: str, root: Path) -> Iterator[None]:
    """Lock the data set; raise `InputError` if another process holds the lock. A process that dies releases it."""
    locks = root / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / name, timeout=0):
            yield
    except Timeout:
        raise InputError(f"NAME={name}: another `make data` is changing this data set; wait until it ends.") from None


def _from_plain(plain: dict[str, Any]) -> DataSet:
    fields = plain["request"]
    start, end = (fields[name] and date.fromisoformat(fields[name]) for name in ("start", "end"))
    request = Request(**{**fields, "symbols": tuple(fields["symbols"]), "start": start, "end": end})
    history = tuple(Version(**version) for version in plain["history"])
    if not history:
        raise ValueError("no snapshot")
    return DataSet(name=plain["name"], request=request, allow=tuple(plain["allow"]), history=history)
