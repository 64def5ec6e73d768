"""How much processor time passes before a verb answers: its `--help`, and the leaderboard of a small store."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.harness import Measurement, in_turn
from benchmarks.tracking import fresh_store
from pipelines.options import SweepOptions
from pipelines.sweep import driver

VERBS = ("pipelines.sweep.sweep", "pipelines.study.study", "analysis.leaderboard", "research.features.catalogue_table")
"""The one that is asked for most, the one with most flags, a reader, and the catalogue, whose own work is long to import."""
HELP_SECONDS, LEADERBOARD_SECONDS = 0.2, 4.0
TIMES = 5


def start_up(folder: Path) -> list[Measurement]:
    """Each beside the import that nothing of its kind can do without, or that a usual reader would begin with."""
    return [*(_help(verb) for verb in VERBS), _leaderboard(small_store(folder))]


def small_store(folder: Path) -> Path:
    """Folder of a store with one sweep of two trials and all baselines."""
    store = fresh_store(folder, "start-up")
    options = SweepOptions(budget="2K", trials=2, epochs=1, device="cpu", workers=1, threads=1, store=store.root)
    driver.run_sweep(options, Console(quiet=True))
    return store.root


def cpu_seconds(*arguments: str) -> float:
    """User and system time of a Python process of its own; what else the machine does is not in it."""
    before = _children()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return _children() - before


def _help(verb: str) -> Measurement:
    ours, parser = _in_turn(["-m", "tapescale", verb, "--help"], ["-c", "import tyro"])
    name = f"{verb} --help / import tyro, CPU"
    return Measurement(name=name, seconds=ours, reference=parser, most_seconds=HELP_SECONDS)


def _leaderboard(root: Path) -> Measurement:
    ours, client = _in_turn(["-m", "tapescale", "leaderboard", "--store", str(root)], ["-c", "import mlflow"])
    name = "leaderboard of a small store / import mlflow, CPU"
    return Measurement(name=name, seconds=ours, reference=client, most_seconds=LEADERBOARD_SECONDS)


def _in_turn(*commands: Sequence[str]) -> list[float]:
    return in_turn([partial(cpu_seconds, *command) for command in commands], TIMES)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
