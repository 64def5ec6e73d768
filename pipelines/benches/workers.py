"""Whether two local processes finish the same small sweep sooner than one trial at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipelines.benches.row import Row, timed
from pipelines.benches.tracking import fresh_store

# Random proposals do not depend on the order of results: both sweeps train the same trials.
SWEEP = ["--budget", "6K", "--trials", "12", "--epochs", "8", "--patience", "8", "--sampler", "random", "--device", "cpu"]
MOST_OF_ONE = 1.0


def workers(folder: Path) -> list[Row]:
    """The whole command, start-up of its processes included."""
    one, two = (_seconds(folder, count) for count in (1, 2))
    return [Row(name="12 trials of 6K: 2 processes / 1", seconds=two, reference=one, most_ratio=MOST_OF_ONE)]


def _seconds(folder: Path, count: int) -> float:
    root = fresh_store(folder, f"workers-{count}").root
    command = [sys.executable, "-m", "pipelines.sweep", *SWEEP, "--workers", str(count), "--store", str(root)]
    return timed(lambda: subprocess.run(command, check=True, capture_output=True))
