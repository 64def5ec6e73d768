"""Fast creation of many finished runs: copies of one real run, written directly to MLflow's tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

COPIED = ("params", "tags", "latest_metrics", "metrics")


@dataclass(frozen=True, kw_only=True)
class Copy:
    """Differences of a copy from its original."""

    name: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def add_copies(database: Path, run_id: str, copies: Iterable[Copy]) -> None:
    """Add the copies; each starts one millisecond after the previous one."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.row_factory = sqlite3.Row
        original = dict(connection.execute("SELECT * FROM runs WHERE run_uuid = ?", (run_id,)).fetchone())
        parts = {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run_id,))]
            for table in COPIED
        }
        for number, copy in enumerate(copies, start=1):
            own = uuid4().hex
            times = {name: original[name] + number for name in ("start_time", "end_time")}
            _insert(connection, "runs", [{**original, **times, "run_uuid": own, "name": copy.name}])
            for table, rows in parts.items():
                changed = {"params": copy.params, "tags": copy.tags}.get(table, copy.metrics)
                values = [{**row, "run_uuid": own, "value": changed.get(row["key"], row["value"])} for row in rows]
                _insert(connection, table, values)


def _insert(connection: sqlite3.Connection, table: str, rows: list[dict[str, object]]) -> None:
    if rows:
        names = list(rows[0])
        marks = ", ".join(f":{name}" for name in names)
        columns = ", ".join(f'"{name}"' for name in names)
        connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
