"""Time of the analysis commands on a store of 10,000 trials at three budgets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.clone_runs import Copy, add_copies
from benchmarks.harness import Measurement, timed
from benchmarks.start_up import cpu_seconds
from benchmarks.tracking import fresh_store
from pipelines.options import SweepOptions
from pipelines.sweep import driver
from research.tracking import query, schema

BUDGETS = ("2K", "6K", "20K")
RUNS = 10_000
MOST_LEADERBOARD, MOST_EFFECTS, MOST_REPORT = 10.0, 30.0, 60.0
DEPTHS, WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24), (4, 8, 12, 16, 24, 32)


def analysing(folder: Path) -> list[Measurement]:
    """Measure leaderboard, effects and report."""
    root = searched_store(folder)
    verbs = {
        "leaderboard": MOST_LEADERBOARD,
        "effects": MOST_EFFECTS,
        "report": MOST_REPORT,
    }
    options = {"report": ["--no-log"]}
    return [
        Measurement(
            name=f"{verb} of {RUNS:,} trials",
            seconds=timed(partial(cpu_seconds, "-m", "tapescale", verb, "--store", str(root), *options.get(verb, []))),
            most_seconds=most,
        )
        for verb, most in verbs.items()
    ]


def searched_store(folder: Path) -> Path:
    """Return a store of three real two-trial sweeps and copies of their trials with other shapes, settings and losses."""
    store = fresh_store(folder, "searched")
    for budget in BUDGETS:
        options = SweepOptions(budget=budget, trials=2, epochs=1, device="cpu", workers=1, threads=1, store=store.root)
        driver.run_sweep(options, Console(quiet=True))
    trials = query.trials(store)
    for budget in BUDGETS:
        mine = trials[(trials["budget"] == budget) & (trials[schema.KIND] == "trial")]
        last = mine.sort_values("val_loss").iloc[-1]
        count = (RUNS - len(trials)) // len(BUDGETS)
        add_copies(store.database, str(last["run_id"]), _copies(budget, count, float(last["val_loss"])))
    return store.root


def _copies(budget: str, count: int, loss: float) -> Iterator[Copy]:
    """Return copies that are worse than their original, so that the finalists are real trials with prediction files."""
    numbers = random.Random(budget)
    for number in range(count):
        depth, width = numbers.choice(DEPTHS), numbers.choice(WIDTHS)
        rate = 10 ** numbers.uniform(-4, -2)
        fingerprint = f"{numbers.getrandbits(64):016x}"
        yield Copy(
            name=f"{number + 2:04d} d{width} L{depth} h1 ff2",
            params={"d_model": str(width), "n_layers": str(depth), "d_ff": str(2 * width), "learning_rate": repr(rate)},
            tags={
                schema.TRIAL_FINGERPRINT: fingerprint,
                schema.CONFIG_FINGERPRINT: fingerprint,
                schema.PROPOSED_BY: "random" if number % 5 < 2 else "tpe",
            },
            metrics={"val_loss": loss + 0.001 + abs(numbers.gauss(0, 0.01)) + 0.01 * abs(rate - 1e-3) * 100},
        )
