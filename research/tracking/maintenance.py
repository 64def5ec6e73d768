"""The state of a local store's database, and what puts it in order: journal, integrity, addresses of artifacts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil

from research.cli.next_steps import FIX, with_store_argument
from research.errors import InputError
from research.tracking.store import DATABASE

ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
"""Columns in which MLflow keeps absolute addresses of artifacts."""
BUSY_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class DatabaseState:
    """What a look at the file says."""

    journal: str
    """`wal` where readers and writers do not wait for each other."""
    revision: str
    """MLflow's mark of the table layout."""
    damage: str
    """What SQLite's quick check says; empty if all is well."""
    moved: dict[str, int]
    """Folder that addresses still begin with and that is not the store's -> how many addresses."""
    left_behind: list[Path]
    """Folders of artifacts that lie there and have none of their name in the store."""


def database_state(root: Path) -> DatabaseState:
    """Read only; `sqlite3.DatabaseError` where the file is no database or MLflow has not filled it."""
    with closing(_open(root, writable=False)) as connection:
        return DatabaseState(
            journal=str(connection.execute("PRAGMA journal_mode").fetchone()[0]),
            revision=str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]),
            damage=_damage(connection),
            moved={old: _count(connection, old) for old in _other_roots(connection, root)},
            left_behind=_left_behind(connection, root),
        )


def set_journal(root: Path) -> None:
    """Switch write-ahead logging on; it stays."""
    with closing(_open(root, writable=True)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def relocate(root: Path) -> tuple[Path, dict[str, int]]:
    """Let every address that begins with another folder begin with the store's own: a backup, then one transaction.

    Gives the backup and how many values changed per column. `InputError` if a process uses the store.
    """
    if using := users(root):
        raise InputError(
            f"STORE={root.name}: {', '.join(using)} uses it; stop it first, then {with_store_argument(root, FIX)}."
        )
    with closing(_open(root, writable=True)) as connection:
        backup = _backup(connection, root)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as problem:
            told = f"STORE={root.name}: {problem}; stop what uses it, then {with_store_argument(root, FIX)}."
            raise InputError(told) from problem
        changed = {f"{table}.{column}": 0 for table, column in ADDRESSES}
        for old in _other_roots(connection, root):
            new = root.as_uri() if old.startswith("file:") else str(root)
            for table, column in ADDRESSES:
                changed[f"{table}.{column}"] += connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {_BEGINS.format(column)}",
                    (new, len(old) + 1, len(old) + len("/artifacts/"), f"{old}/artifacts/"),
                ).rowcount
        connection.execute("COMMIT")
    return backup, {place: count for place, count in changed.items() if count}


def users(root: Path) -> list[str]:
    """Other processes of this machine that hold the database open, those of other users left out that cannot be seen."""
    database = str(root / DATABASE)
    found = []
    for process in psutil.process_iter(["pid", "name"]):
        try:
            holds = process.pid != psutil.Process().pid and any(one.path == database for one in process.open_files())
        except (psutil.Error, OSError):
            continue
        if holds:
            found.append(f"process {process.pid} ({process.info['name']})")
    return found


def as_path(address: str) -> Path:
    """The folder that a local address names."""
    return Path(unquote(urlsplit(address).path) if address.startswith("file:") else address)


# LIKE would take the letters _ and % of a path for patterns.
_BEGINS = "substr({}, 1, ?) = ?"


def _open(root: Path, *, writable: bool) -> sqlite3.Connection:
    address = f"{(root / DATABASE).as_uri()}?mode={'rw' if writable else 'ro'}"
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _damage(connection: sqlite3.Connection) -> str:
    said = "; ".join(str(row[0]) for row in connection.execute("PRAGMA quick_check(3)"))
    return "" if said == "ok" else said


def _other_roots(connection: sqlite3.Connection, root: Path) -> list[str]:
    """What stands before `/artifacts/<experiment>` in the addresses of experiments that do not lie in the store."""
    return sorted({before for before, _ in _elsewhere(connection, root)})


def _left_behind(connection: sqlite3.Connection, root: Path) -> list[Path]:
    there = [(as_path(before) / "artifacts" / name, name) for before, name in _elsewhere(connection, root)]
    return [folder for folder, name in there if folder.is_dir() and not (root / "artifacts" / name).is_dir()]


def _elsewhere(connection: sqlite3.Connection, root: Path) -> Iterator[tuple[str, str]]:
    """What stands before `/artifacts/<experiment>`, and the experiment."""
    for name, address in connection.execute("SELECT name, artifact_location FROM experiments"):
        before, here, after = str(address).rpartition("/artifacts/")
        if here and unquote(after) == name and before.startswith(("file:", "/")) and as_path(before) != root:
            yield before, name


def _count(connection: sqlite3.Connection, old: str) -> int:
    begin = f"{old}/artifacts/"
    counts = (
        connection.execute(f"SELECT count(*) FROM {table} WHERE {_BEGINS.format(column)}", (len(begin), begin)).fetchone()[0]
        for table, column in ADDRESSES
    )
    return sum(counts)


def _backup(connection: sqlite3.Connection, root: Path) -> Path:
    path = root / f"{DATABASE}.before-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with closing(sqlite3.connect(path)) as copy:
        connection.backup(copy)
    return path
