"""Sweeps so small that a test can afford several, and ways to disturb them.

They have one baseline, draw nothing and register nothing unless asked to: all of that is the matter of test_end_to_end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from rich.console import Console

from pipelines.options import SweepOptions
from pipelines.sweep.driver import run_sweep
from pipelines.sweep.progress import SweepDisplay
from pipelines.sweep.state import Sweep
from pipelines.trial.context import WorkerContext, WorkerResources
from pipelines.trial.job import Job
from research.models.baselines import BASELINES
from research.tracking import query
from research.tracking.query import RunRecord
from research.training.trial_state import EpochRecord


def options(root: Path, **changes: object) -> SweepOptions:
    chosen = {"budget": "2K", "trials": 1, "epochs": 1, "device": "cpu", "workers": 1, "threads": 1, "store": root, **changes}
    return SweepOptions(**chosen)  # type: ignore[arg-type]


def run(root: Path, *, registers: bool = False, **changes: object) -> Sweep:
    with (
        patch("pipelines.sweep.driver.BASELINES", {"prior": BASELINES["prior"]}),
        nullcontext() if registers else patch("pipelines.sweep.parent_run.register_best", return_value=None),
        patch("pipelines.trial.figures.save"),
        patch("pipelines.sweep.messages.standings", return_value=[]),
    ):
        return run_sweep(options(root, **changes), Console(quiet=True))


def worker_of(sweep: Sweep, *, devices: int = 1, **runtime: object) -> WorkerContext:
    """A worker of the sweep whose devices are the driver's own, repeated."""
    changed = replace(sweep.runtime, **runtime)  # type: ignore[arg-type]
    return WorkerContext.build(sweep.context, WorkerResources(runtime=changed, devices=(changed.device,) * devices))


def copy_of(migrated_store: Path, folder: Path) -> Path:
    shutil.copytree(migrated_store, folder / "mlruns")
    return folder / "mlruns"


@contextmanager
def at_every_epoch(do: Callable[[Job, EpochRecord], None]) -> Iterator[None]:
    """Do something in the driver whenever it hears of an epoch."""
    real = SweepDisplay.show_epoch

    def watched(display: SweepDisplay, job: Job, record: EpochRecord) -> None:
        real(display, job, record)
        do(job, record)

    with patch.object(SweepDisplay, "show_epoch", watched):
        yield


def stopping_at(number: int, epoch: int) -> Callable[[Job, EpochRecord], None]:
    """Ctrl-C the moment this epoch of this trial has ended."""

    def stop(job: Job, record: EpochRecord) -> None:
        if (job.number, record.epoch) == (number, epoch):
            raise KeyboardInterrupt

    return stop


def children_of(sweep: Sweep) -> list[RunRecord]:
    return query.children(sweep.context.store, sweep.context.experiment_id, sweep.log.run_id)


def tried(sweep: Sweep, number: int) -> list[RunRecord]:
    """The attempts of one trial, oldest first."""
    return [run for run in children_of(sweep) if run.kind == "trial" and run.params.get("number") == number]


def curve_of(sweep: Sweep, run: RunRecord) -> dict[int, float]:
    return query.histories(sweep.context.store, [run.run_id], "epoch/val_loss")[run.run_id]


def checkpoints_in(root: Path) -> list[str]:
    return [path.name for path in (root / "checkpoints").glob("*")]
