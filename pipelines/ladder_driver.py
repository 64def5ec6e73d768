"""Runs the sweeps of a ladder one after the other. What can be refused is refused before the first of them starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from rich.console import Console

from pipelines import ladder_table
from pipelines.assembly import architectures_of
from pipelines.driver import run_sweep
from pipelines.ladder_state import (
    Overview,
    Progress,
    RungState,
    Status,
    ladder_fingerprint,
    read_state,
    remember_targets,
    remembered_targets,
    targets_of,
)
from pipelines.lease import only_driver
from pipelines.options import SweepOptions
from pipelines.preparation import prepare
from pipelines.rungs import Effort, Rung, seconds_left
from pipelines.search import SearchSpace
from pipelines.trial_record import Context
from research.models.accounting import parameter_count, training_flops
from research.spec import InputError
from research.tracking import schema
from research.tracking.patience import StoreUnavailable

NOTHING_COMPLETED = "no trial completed; their reasons are on its runs"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A rung that has been checked and could start at once."""

    rung: Rung
    options: SweepOptions
    fingerprint: str
    """Of its sweep."""
    sizes: tuple[int, ...]
    """Parameters of the architectures that are searched, ascending."""
    left_out: int
    """Architectures of the budget that do not fit this machine."""
    thin: tuple[str, ...]
    """What is below the evidence floor, where that was allowed."""
    flops: float
    """Of one epoch of an architecture, on average."""

    @property
    def title(self) -> str:
        """Name of its sweep."""
        return self.rung.title


@dataclass(kw_only=True)
class Ladder:
    """A study on its way; all but the failures can be read from MLflow again."""

    context: Context
    """Of the first rung; the store and the experiment are the same for all."""
    steps: list[Step]
    states: dict[str, RungState]
    targets: dict[str, int]
    """Trials that each rung is to have in all."""
    finishing: bool = False
    """Whether a supplement that was asked for has to wait until an earlier start's trials are done."""
    failures: dict[str, str] = field(default_factory=dict)
    running: str = ""
    started: float = field(default_factory=time.monotonic)

    def read(self, step: Step) -> None:
        """Bring one rung's state up to date."""
        self.states[step.title] = read_state(self.context.store, self.context.experiment_id, step.fingerprint, step.options)

    def status(self, title: str) -> Status:
        """One word for a rung."""
        if title == self.running:
            return "running"
        if self.states[title].is_done(self.targets[title]):
            return "done"
        return "failed" if title in self.failures else "waiting"

    def overview(self) -> Overview:
        """The overall view in numbers. A rung that failed is not tried again by this start and takes no more time."""
        cells = [
            Progress(
                rung=step.rung,
                state=self.states[step.title],
                target=self.targets[step.title],
                status=self.status(step.title),
                reason=self.failures.get(step.title, ""),
            )
            for step in self.steps
        ]
        efforts = [self._effort(step) for step in self.steps]
        return Overview(cells=cells, elapsed=time.monotonic() - self.started, left=seconds_left(efforts))

    def _effort(self, step: Step) -> Effort:
        state, target = self.states[step.title], self.targets[step.title]
        replicates = step.options.replicates * min(step.options.replicate_best, target)
        left = 0 if step.title in self.failures else state.trials_left(target, replicates)
        return Effort(flops=step.flops, trials_left=left, seconds=state.seconds)


def run_ladder(options: SweepOptions, rungs: Sequence[Rung], console: Console) -> Overview:
    """Start or continue a study: every rung that is not done, in the given order.

    A sweep that fails does not stop the others. A store that stays away does, since no other rung could be written
    either, and so does Ctrl-C.
    """
    context, steps = check(options, rungs)
    identity = ladder_fingerprint([step.fingerprint for step in steps])
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


def check(options: SweepOptions, rungs: Sequence[Rung]) -> tuple[Context, list[Step]]:
    """Prepare every rung as its sweep will; raises `InputError` at the first that would be refused. No run is opened."""
    checked = [_check(_options_of(options, rung), rung) for rung in rungs]
    return checked[0][0], [step for _, step in checked]


def _options_of(options: SweepOptions, rung: Rung) -> SweepOptions:
    windows = str(rung.windows) if rung.windows else ""
    return replace(options, budget=rung.budget.label, horizon=rung.horizon, windows=windows)


def _check(options: SweepOptions, rung: Rung) -> tuple[Context, Step]:
    context, fitting = prepare(options, Console(quiet=True))
    SearchSpace.asked_for(options).for_training(len(context.study.prepared.split.train), options.epochs)
    return context, Step(
        rung=rung,
        options=options,
        fingerprint=context.tags[schema.SWEEP_FINGERPRINT],
        sizes=tuple(sorted(parameter_count(a) for a in fitting)),
        left_out=len(architectures_of(options, context.study.prepared, context.budget)) - len(fitting),
        thin=tuple(context.study.thin),
        flops=fmean(training_flops(a) for a in fitting) * len(context.study.prepared.split.train),
    )


def _open(context: Context, steps: list[Step], identity: str, options: SweepOptions) -> Ladder:
    """The ladder with what the store knows; the number of trials per rung is written down before the first one starts."""
    ladder = Ladder(context=context, steps=steps, states={}, targets={})
    for step in steps:
        ladder.read(step)
    remembered = remembered_targets(context.store, context.experiment_id, identity)
    ladder.targets = targets_of(options, ladder.states, remembered)
    # A supplement that begins asks for more than the last start did; one that goes on asks for the same.
    ladder.finishing = options.add_trials is not None and ladder.targets == remembered
    if ladder.targets != remembered:
        remember_targets(context.store, context.experiment_id, identity, ladder.targets)
    return ladder


def _climb(ladder: Ladder, console: Console) -> None:
    for place, step in enumerate(ladder.steps, 1):
        if ladder.status(step.title) != "done":
            ladder.running = step.title
            ladder_table.print_overview(ladder.overview(), console)
            ladder_table.print_rung(place, len(ladder.steps), step.title, console)
            _run_rung(ladder, step, console)


def _run_rung(ladder: Ladder, step: Step, console: Console) -> None:
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
