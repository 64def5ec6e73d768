"""Runs the sweeps of a study one after the other, after all of them have been checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from rich.console import Console

from pipelines.options import SweepOptions
from pipelines.study import table
from pipelines.study.budget_list import StudySweep
from pipelines.study.state import (
    PlannedSweep,
    Study,
    StudyProgress,
    save_targets,
    saved_targets,
    study_fingerprint,
    targets_of,
)
from pipelines.sweep.driver import run_sweep
from pipelines.sweep.driver_lock import only_driver
from pipelines.sweep.grid import architectures_of
from pipelines.sweep.search_space import SearchSpace
from pipelines.sweep.setup import SweepSetup, prepare
from research.errors import InputError
from research.models.accounting import parameter_count, training_flops
from research.tracking import schema
from research.tracking.retry import StoreUnavailable

NOTHING_COMPLETED = "no trial completed; the reasons are on its runs"


def run_study(options: SweepOptions, sweeps: Sequence[StudySweep], console: Console) -> StudyProgress:
    """Start or continue a study: run every sweep that is not done, in the given order.

    A failed sweep does not stop the others. An unavailable store does, because no other sweep could be recorded, and
    so does Ctrl-C.
    """
    context, planned = check(options, sweeps)
    identity = study_fingerprint([sweep.fingerprint for sweep in planned])
    with only_driver(context.store, identity, "study"):
        study = _open(context, planned, identity, options)
        table.print_opening(study, console)
        try:
            for number, sweep in enumerate(study.sweeps, 1):
                if study.status(sweep.title) != "done":
                    study.running = sweep.title
                    table.print_progress(study.progress(), console)
                    console.rule(f"sweep {number} of {len(study.sweeps)}: {sweep.title}", align="left")
                    _run(study, sweep, console)
        except KeyboardInterrupt:
            table.print_stop(study.running, console)
            raise
    progress = study.progress()
    table.print_progress(progress, console)
    table.print_ending(progress, options.store, console)
    return progress


def check(options: SweepOptions, sweeps: Sequence[StudySweep]) -> tuple[SweepSetup, list[PlannedSweep]]:
    """Prepare every sweep without opening a run; raise `InputError` at the first invalid one."""
    checked = [_check(options, sweep) for sweep in sweeps]
    return checked[0][0], [planned for _, planned in checked]


def _check(options: SweepOptions, sweep: StudySweep) -> tuple[SweepSetup, PlannedSweep]:
    windows = str(sweep.windows) if sweep.windows else ""
    options = replace(options, budget=sweep.budget.label, horizon=sweep.horizon, windows=windows)
    context = prepare(options, Console(quiet=True))
    data = context.task.prepared
    SearchSpace.of_options(options).for_training(len(data.split.train), options.epochs)
    return context, PlannedSweep(
        sweep=sweep,
        options=options,
        fingerprint=context.tags[schema.SWEEP_FINGERPRINT],
        sizes=tuple(sorted(parameter_count(a) for a in context.architectures)),
        left_out=len(architectures_of(options, data, context.budget)) - len(context.architectures),
        thin=tuple(context.task.thin),
        flops=fmean(training_flops(a) for a in context.architectures) * len(data.split.train),
    )


def _open(context: SweepSetup, planned: list[PlannedSweep], identity: str, options: SweepOptions) -> Study:
    """Load the study from the store; save the number of trials per sweep before the first sweep starts."""
    study = Study(context=context, sweeps=planned, states={}, targets={})
    for sweep in planned:
        study.read(sweep)
    saved = saved_targets(context.store, context.experiment_id, identity)
    study.targets = targets_of(options, study.states, saved)
    # A new supplement raises the saved targets; a resumed one leaves them unchanged.
    study.finishing = options.add_trials is not None and study.targets == saved
    if study.targets != saved:
        save_targets(context.store, context.experiment_id, identity, study.targets)
    return study


def _run(study: Study, sweep: PlannedSweep, console: Console) -> None:
    options = replace(sweep.options, trials=study.targets[sweep.title], add_trials=None)
    try:
        result = run_sweep(options, console, brief=True)
        if result.best is None:
            study.failures[sweep.title] = NOTHING_COMPLETED
    except StoreUnavailable:
        raise
    except InputError as error:
        # This includes a sweep that another driver runs or has taken over; the other sweeps may still be free.
        study.failures[sweep.title] = str(error)
    study.running = ""
    study.read(sweep)
