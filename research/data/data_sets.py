"""Named data sets: a small file beside the snapshots that says which one is the newest and how to ask for more."""

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
"""Letters of a digest that select a snapshot."""
LOCKS = ".locks"
"""Folder of locks; they stay when they are free."""
SYMBOLS_IN_NAME = 4
"""Most symbols that a data set is named after."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One snapshot that a data set has had."""

    digest: str
    at: str
    """UTC time at which it became the newest."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A name, the request behind it, and its snapshots."""

    name: str
    request: Request
    """What a refresh asks for."""
    allow: tuple[str, ...] = ()
    """Rules of validation that its owner has accepted as broken."""
    history: tuple[Version, ...] = ()
    """Oldest first; the last one is what the name selects."""

    @property
    def digest(self) -> str:
        """The newest snapshot."""
        return self.history[-1].digest

    def with_version(self, digest: str, at: str) -> DataSet:
        """The data set with this snapshot as its newest; the same history if it is so already."""
        if self.history and self.digest == digest:
            return self
        return replace(self, history=(*self.history, Version(digest=digest, at=at)))


def check_name(name: str) -> None:
    """Refuse names that `DATA=` would take for something else."""
    fix = "give lower-case letters, digits, - and _, a letter or digit first, 64 at most."
    require(re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", name) is not None, "NAME", name, fix)
    require(name not in SOURCES, "NAME", name, "this is a source; give another name.")
    digest_like = re.fullmatch(f"[0-9a-f]{{{SHORTEST_PREFIX},{FINGERPRINT_LENGTH}}}", name) is not None
    require(not digest_like, "NAME", name, "this looks like a snapshot's digest; give a name with another letter, g to z.")


def default_name(request: Request) -> str:
    """A name after the symbols, or after the file."""
    if request.source == "file":
        return re.sub("[^a-z0-9_]+", "-", Path(request.settings["path"]).name.split(".")[0].lower()).strip("-_")
    names = [slug(symbol) for symbol in request.symbols]
    left = len(names) - SYMBOLS_IN_NAME
    return "-".join(names if left <= 0 else [*names[:SYMBOLS_IN_NAME], f"{left}-more"])


def read_data_set(name: str, root: Path) -> DataSet | None:
    """The data set of that name; None if there is none."""
    path = root / f"{name}.json"
    if not re.fullmatch("[a-z0-9_-]+", name) or not path.is_file():
        return None
    try:
        return _from_plain(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise InputError(
            f"DATA={name}: {path} cannot be read ({type(problem).__name__}); delete it (its snapshots stay) and run "
            "`make data` with the data set's SYMBOLS= or DATA=path again."
        ) from problem


def write_data_set(data_set: DataSet, root: Path) -> None:
    """Store or replace the data set's file, at once or not at all."""
    handle, staging = tempfile.mkstemp(prefix=".staging-", dir=root)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(_to_plain(data_set), indent=2) + "\n")
        os.chmod(staging, 0o644)
        os.replace(staging, root / f"{data_set.name}.json")
    finally:
        Path(staging).unlink(missing_ok=True)


def newest_after(digest: str, root: Path) -> str:
    """The newest snapshot of the data set that this one belongs to; itself if it belongs to none."""
    sets = [found for name in data_set_names(root) if (found := read_data_set(name, root))]
    holders = [one.history[-1] for one in sets if digest in {version.digest for version in one.history}]
    return max(holders, key=lambda version: version.at).digest if holders else digest


def data_set_names(root: Path) -> list[str]:
    """Names of all data sets, sorted."""
    return sorted(path.stem for path in root.glob("[!.]*.json"))


@contextmanager
def data_set_lock(name: str, root: Path) -> Iterator[None]:
    """Hold the data set; `InputError` if somebody else is about to change it. A dead holder holds nothing."""
    locks = root / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / name, timeout=0):
            yield
    except Timeout:
        raise InputError(f"NAME={name}: another `make data` is at work on it; wait until it has ended.") from None


def _to_plain(data_set: DataSet) -> dict[str, Any]:
    plain = asdict(data_set)
    request = plain["request"]
    request["settings"] = dict(data_set.request.settings)
    request["start"], request["end"] = (day and day.isoformat() for day in (data_set.request.start, data_set.request.end))
    return plain


def _from_plain(plain: dict[str, Any]) -> DataSet:
    asked = plain["request"]
    start, end = (asked[field] and date.fromisoformat(asked[field]) for field in ("start", "end"))
    request = Request(**{**asked, "symbols": tuple(asked["symbols"]), "start": start, "end": end})
    history = tuple(Version(**one) for one in plain["history"])
    if not history:
        raise ValueError("no snapshot")
    return DataSet(name=plain["name"], request=request, allow=tuple(plain["allow"]), history=history)
