"""Time to read a large store."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.clone_runs import Copy, add_copies
from benchmarks.harness import Measurement, timed
from benchmarks.tracking import fresh_store, reference
from research.tracking import query
from research.tracking import sqlite_reader as sql
from research.tracking.run_writer import RunLog
from research.tracking.store import Store

RUNS = 10_000
MOST_SECONDS = 5.0
PARAMS, TAGS, METRICS = 25, 20, 25


def reading(folder: Path) -> list[Measurement]:
    """Measure `query.trials` on a store of 10,000 runs with 25 parameters, 20 tags and 25 metrics each."""
    store = large_store(folder)
    return [
        Measurement(
            name=f"reading a store of {RUNS:,} runs", seconds=timed(lambda: query.trials(store)), most_seconds=MOST_SECONDS
        )
    ]


def search_runs(folder: Path) -> list[Measurement]:
    """Measure the same compared with `mlflow.search_runs`, which takes a minute."""
    store = large_store(folder)
    ours = timed(lambda: query.trials(store))
    theirs = reference("search_runs", store, 0)
    return [Measurement(name=f"reading a store of {RUNS:,} runs / mlflow.search_runs", seconds=ours, reference=theirs)]


def large_store(folder: Path) -> Store:
    """Return a store with 10,000 trials, all with different numbers."""
    store = fresh_store(folder, "large")
    log = RunLog.start(
        store,
        experiment_id=store.experiment("e"),
        kind="trial",
        name="0000",
        params={f"param_{n:02d}": n / 7 for n in range(PARAMS)},
        tags={f"tag_{n:02d}": "0123456789abcdef" for n in range(TAGS)},
    )
    log.finish("complete", metrics={f"metric_{n:02d}": n / 3 for n in range(METRICS)})
    add_copies(store.database, log.run_id, _copies())
    assert len(sql.records(store.database, [store.experiment("e")], {})) == RUNS
    return store


def _copies() -> Iterator[Copy]:
    numbers = random.Random(0)
    for number in range(1, RUNS):
        yield Copy(
            name=f"{number:05d}",
            params={f"param_{n:02d}": repr(numbers.random()) for n in range(PARAMS)},
            tags={f"tag_{n:02d}": f"{numbers.getrandbits(64):016x}" for n in range(TAGS)},
            metrics={f"metric_{n:02d}": numbers.random() for n in range(METRICS)},
        )
