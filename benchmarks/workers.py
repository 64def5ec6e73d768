"""Time of a small sweep with one process, with two, and with the number that the sweep chooses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.harness import Measurement, timed
from benchmarks.tracking import fresh_store

# Random suggestions do not depend on the order of results, so all sweeps train the same trials.
SWEEP = ["--budget", "6K", "--trials", "12", "--epochs", "8", "--patience", "8", "--sampler", "random", "--device", "cpu"]
CHOICES = {"one": ["--workers", "1"], "two": ["--workers", "2", "--threads", "1"], "chosen": []}
MOST_OF_ONE = 1.0
MOST_OF_BETTER = 1.25
"""The sweep's own choice needs a measurement, which takes a few seconds of a short sweep."""


def workers(folder: Path) -> list[Measurement]:
    """Time the whole command, including the start of its processes."""
    one, two, chosen = (_seconds(folder, name, flags) for name, flags in CHOICES.items())
    return [
        Measurement(
            name="12 trials of 6K: 2 processes x 1 thread / 1 x all", seconds=two, reference=one, most_ratio=MOST_OF_ONE
        ),
        Measurement(
            name="12 trials of 6K: the sweep's own choice, its probe included / the better of the two",
            seconds=chosen,
            reference=min(one, two),
            most_ratio=MOST_OF_BETTER,
        ),
    ]


def _seconds(folder: Path, name: str, flags: list[str]) -> float:
    root = fresh_store(folder, f"workers-{name}").root
    command = [sys.executable, "-m", "tapescale", "sweep", *SWEEP, *flags, "--store", str(root)]
    return timed(lambda: subprocess.run(command, check=True, capture_output=True))
