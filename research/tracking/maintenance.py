"""State and repair of a local store's database: journal, integrity, addresses of artifacts."""

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
    """State of a database file."""

    journal: str
    """Journal mode; with `wal` readers and writers do not block each other."""
    revision: str
    """MLflow's version of the table layout."""
    damage: str
    """Result of SQLite's quick check; empty without errors."""
    moved: dict[str, int]
    """Other folder that addresses begin with -> number of addresses."""
    left_behind: list[Path]
    """Artifact folders of the other place that the store lacks."""


def database_state(root: Path) -> DatabaseState:
    """Return the state of a store's database, read only.

    Raises `sqlite3.DatabaseError` if the file is no database or lacks MLflow's tables.
    """
    with closing(_open(root, writable=False)) as connection:
        return DatabaseState(
            journal=str(connection.execute("PRAGMA journal_mode").fetchone()[0]),
            revision=str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]),
            damage=_damage(connection),
            moved={old: _count(connection, old) for old in _other_roots(connection, root)},
            left_behind=_left_behind(connection, root),
        )


def set_journal(root: Path) -> None:
    """Switch write-ahead logging on for good."""
    with closing(_open(root, writable=True)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def relocate(root: Path) -> tuple[Path, dict[str, int]]:
    """Replace other folders in addresses by the store's own: a backup, then one transaction.

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
        except sqlite3.OperationalError as error:
            command = with_store_argument(root, FIX)
            raise InputError(f"STORE={root.name}: {error}; stop what uses it, then {command}.") from error
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
    """Return other processes of this machine with the database open, without those of other users."""
    database = str(root / DATABASE)
    processes = []
    for process in psutil.process_iter(["pid", "name"]):
        try:
            holds = process.pid != psutil.Process().pid and any(file.path == database for file in process.open_files())
        except (psutil.Error, OSError):
            continue
        if holds:
            processes.append(f"process {process.pid} ({process.info['name']})")
    return processes


def as_path(address: str) -> Path:
    """Return the folder of a local address."""
    return Path(unquote(urlsplit(address).path) if address.startswith("file:") else address)


# LIKE would take the letters _ and % of a path for patterns.
_BEGINS = "substr({}, 1, ?) = ?"


def _open(root: Path, *, writable: bool) -> sqlite3.Connection:
    address = f"{(root / DATABASE).as_uri()}?mode={'rw' if writable else 'ro'}"
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _damage(connection: sqlite3.Connection) -> str:
    report = "; ".join(str(row[0]) for row in connection.execute("PRAGMA quick_check(3)"))
    return "" if report == "ok" else report


def _other_roots(connection: sqlite3.Connection, root: Path) -> list[str]:
    """Return the prefix before `/artifacts/<experiment>` in addresses outside the store."""
    return sorted({before for before, _ in _elsewhere(connection, root)})


def _left_behind(connection: sqlite3.Connection, root: Path) -> list[Path]:
    there = [(as_path(before) / "artifacts" / name, name) for before, name in _elsewhere(connection, root)]
    return [folder for folder, name in there if folder.is_dir() and not (root / "artifacts" / name).is_dir()]


def _elsewhere(connection: sqlite3.Connection, root: Path) -> Iterator[tuple[str, str]]:
    """Return the prefix before `/artifacts/<experiment>`, and the experiment."""
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
