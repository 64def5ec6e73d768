"""Runs the sweeps of a ladder one after the other. What can be refused is refused before the first of them starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from rich.console import Console

from pipelines.options import SweepOptions
from pipelines.study import table as ladder_table
from pipelines.study.budget_list import StudySweep
from pipelines.study.state import (
    PlannedSweep,
    Study,
    StudyProgress,
    remember_targets,
    remembered_targets,
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

NOTHING_COMPLETED = "no trial completed; their reasons are on its runs"


def run_study(options: SweepOptions, rungs: Sequence[StudySweep], console: Console) -> StudyProgress:
    """Start or continue a study: every rung that is not done, in the given order.

    A sweep that fails does not stop the others. A store that stays away does, since no other rung could be written
    either, and so does Ctrl-C.
    """
    context, steps = check(options, rungs)
    identity = study_fingerprint([step.fingerprint for step in steps])
    with only_driver(context.store, identity, "study"):
        ladder = _open(context, steps, identity, options)
        ladder_table.print_opening(ladder, console)
        try:
            _climb(ladder, console)
        except KeyboardInterrupt:
            ladder_table.print_stop(ladder.running, console)
            raise
    overview = ladder.overview()
    ladder_table.print_overview(overview, console)
    ladder_table.print_ending(overview, options.store, console)
    return overview


def check(options: SweepOptions, rungs: Sequence[StudySweep]) -> tuple[SweepSetup, list[PlannedSweep]]:
    """Prepare every rung as its sweep will; raises `InputError` at the first that would be refused. No run is opened."""
    checked = [_check(_options_of(options, rung), rung) for rung in rungs]
    return checked[0][0], [step for _, step in checked]


def _options_of(options: SweepOptions, rung: StudySweep) -> SweepOptions:
    windows = str(rung.windows) if rung.windows else ""
    return replace(options, budget=rung.budget.label, horizon=rung.horizon, windows=windows)


def _check(options: SweepOptions, rung: StudySweep) -> tuple[SweepSetup, PlannedSweep]:
    context = prepare(options, Console(quiet=True))
    fitting = context.architectures
    SearchSpace.asked_for(options).for_training(len(context.task.prepared.split.train), options.epochs)
    return context, PlannedSweep(
        rung=rung,
        options=options,
        fingerprint=context.tags[schema.SWEEP_FINGERPRINT],
        sizes=tuple(sorted(parameter_count(a) for a in fitting)),
        left_out=len(architectures_of(options, context.task.prepared, context.budget)) - len(fitting),
        thin=tuple(context.task.thin),
        flops=fmean(training_flops(a) for a in fitting) * len(context.task.prepared.split.train),
    )


def _open(context: SweepSetup, steps: list[PlannedSweep], identity: str, options: SweepOptions) -> Study:
    """The ladder with what the store knows; the number of trials per rung is written down before the first one starts."""
    ladder = Study(context=context, steps=steps, states={}, targets={})
    for step in steps:
        ladder.read(step)
    remembered = remembered_targets(context.store, context.experiment_id, identity)
    ladder.targets = targets_of(options, ladder.states, remembered)
    # A supplement that begins asks for more than the last start did; one that goes on asks for the same.
    ladder.finishing = options.add_trials is not None and ladder.targets == remembered
    if ladder.targets != remembered:
        remember_targets(context.store, context.experiment_id, identity, ladder.targets)
    return ladder


def _climb(ladder: Study, console: Console) -> None:
    for place, step in enumerate(ladder.steps, 1):
        if ladder.status(step.title) != "done":
            ladder.running = step.title
            ladder_table.print_overview(ladder.overview(), console)
            ladder_table.print_rung(place, len(ladder.steps), step.title, console)
            _run_rung(ladder, step, console)


def _run_rung(ladder: Study, step: PlannedSweep, console: Console) -> None:
    options = replace(step.options, trials=ladder.targets[step.title], add_trials=None)
    try:
        sweep = run_sweep(options, console, brief=True)
        if sweep.best is None:
            ladder.failures[step.title] = NOTHING_COMPLETED
    except StoreUnavailable:
        raise
    except InputError as problem:
        # Also a sweep that another driver has, or has taken over: the others may still be free.
        ladder.failures[step.title] = str(problem)
    ladder.running = ""
    ladder.read(step)
