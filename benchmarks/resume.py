"""Time until a sweep with 1,000 finished trials suggests the next one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
from rich.console import Console

from benchmarks.clone_runs import Copy, add_copies
from benchmarks.harness import Measurement, timed
from benchmarks.tracking import fresh_store
from pipelines.options import SweepOptions
from pipelines.sweep import driver
from pipelines.sweep.driver_lock import DriverLease
from pipelines.sweep.job_queue import JobQueue, load_history
from pipelines.sweep.progress import SweepDisplay
from pipelines.sweep.result_reuse import ResultCache
from pipelines.sweep.search_space import FixedSettings, suggest, trial_spec
from pipelines.sweep.setup import prepare
from pipelines.sweep.state import Sweep
from pipelines.trial.record import declared_params
from research.tracking import schema

TRIALS = 1000
MOST_SECONDS = 5.0


def resume(folder: Path) -> list[Measurement]:
    """Measure the time from prepared data to the first suggestion: read the store, update the sampler, sample."""
    store = fresh_store(folder, "resume")
    options = SweepOptions(budget="2K", trials=1, epochs=1, device="cpu", workers=1, store=store.root)
    quiet = Console(quiet=True)
    first = driver.run_sweep(options, quiet)
    add_copies(store.database, first.trials[0].run_id, _copies(first))
    more = replace(options, trials=TRIALS + 1)
    prepared = prepare(more, quiet)
    seconds = timed(lambda: _propose(driver.open_sweep(more, prepared), quiet))
    return [
        Measurement(
            name=f"resuming a sweep of {TRIALS:,} trials, to its next proposal", seconds=seconds, most_seconds=MOST_SECONDS
        )
    ]


def _propose(sweep: Sweep, console: Console) -> None:
    display = SweepDisplay(console, "", sweep.total)
    load_history(sweep, display)
    jobs = JobQueue(sweep=sweep, known=ResultCache(sweep.context), display=display, lease=DriverLease(sweep.log))
    job = jobs.next_job()
    assert len(sweep.trials) == TRIALS
    assert job is not None
    assert job.number == TRIALS


def _copies(first: Sweep) -> Iterator[Copy]:
    """Return possible trials of the sweep, each with a separate suggestion, fingerprints and loss."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    options, context = first.options, first.context
    fixed = FixedSettings(task=context.task.spec, epochs=options.epochs, patience=options.patience, seed=options.seed)
    for number in range(1, TRIALS):
        suggested = suggest(study.ask(), first.space, first.architectures)
        spec = trial_spec(suggested, fixed, first.architectures)
        fingerprints = {schema.TRIAL_FINGERPRINT: spec.fingerprint, schema.CONFIG_FINGERPRINT: spec.config_fingerprint}
        yield Copy(
            name=f"{number:04d} {spec.architecture.label}",
            params={name: str(value) for name, value in {**declared_params(spec, context.budget), "number": number}.items()},
            tags={schema.SUGGESTED: json.dumps(suggested), **fingerprints},
            metrics={"val_loss": 0.36 + suggested["dropout"] / 10},
        )
