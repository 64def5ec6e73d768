"""The sweep's driver: Optuna proposes, trials run, MLflow remembers, and only then is the sampler told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from rich.console import Console

from pipelines.executors.base import Executor
from pipelines.executors.choose import Layout, executor_for, layout_for
from pipelines.options import SweepOptions
from pipelines.sweep import messages as summary
from pipelines.sweep import parent_run as parent
from pipelines.sweep.dispatcher import Dispatch
from pipelines.sweep.driver_lock import DriverLease, TakenOverError, only_driver, refuse_if_driven
from pipelines.sweep.history import SweepHistory, close_open_children, read_history
from pipelines.sweep.job_queue import JobQueue, load_history, record
from pipelines.sweep.progress import SweepDisplay
from pipelines.sweep.result_reuse import ResultCache
from pipelines.sweep.sampler import TrialSampler
from pipelines.sweep.search_space import SearchSpace
from pipelines.sweep.setup import prepare
from pipelines.sweep.state import Sweep
from pipelines.trial.baseline_run import run_baseline
from pipelines.trial.context import Context
from research.models.baselines import BASELINES
from research.spec import ArchitectureSpec
from research.tracking import schema
from research.tracking.query import sweep_with
from research.tracking.registry import RegisteredVersion
from research.tracking.retry import StoreUnavailable
from research.tracking.run_writer import RunLog


def run_sweep(options: SweepOptions, console: Console, *, brief: bool = False) -> Sweep:
    """Start or continue a sweep and close it; raises `KeyboardInterrupt` after putting the store in order.

    `brief` leaves its opening and its summary out, for one of many sweeps.
    """
    context, architectures = prepare(options, Console(quiet=True) if brief else console)
    with only_driver(context.store, context.tags[schema.SWEEP_FINGERPRINT]):
        sweep = open_sweep(options, context, architectures)
        with DriverLease(sweep.log) as lease:
            registered = _run_and_close(sweep, lease, console)
    if not brief:
        summary.print_summary(sweep, registered, console)
    return sweep


def _run_and_close(sweep: Sweep, lease: DriverLease, console: Console) -> RegisteredVersion | None:
    left = sweep.total - len(sweep.history.trials)
    try:
        context = sweep.context
        layout = layout_for(sweep.options, context.runtime.device, sweep.architectures, left, context.optimizer)
        summary.print_history(sweep, layout, console)
        _run(sweep, layout, lease, console)
        lease.confirm()
        close_open_children(sweep.context)
        return parent.close(sweep)
    except StoreUnavailable:
        # Nothing more can be written to it; the next start finds a dead driver's sweep and puts it in order.
        raise
    except BaseException as problem:
        _abandon(sweep, lease, problem)
        raise


def _abandon(sweep: Sweep, lease: DriverLease, problem: BaseException) -> None:
    """Leave no run open, unless the sweep belongs to another driver by now: its runs are open for good reason."""
    with suppress(TakenOverError):
        lease.confirm()
        close_open_children(sweep.context)
        parent.abandon(sweep, problem)


def _run(sweep: Sweep, layout: Layout, lease: DriverLease, console: Console) -> None:
    """Every baseline, every trial number that has no outcome yet, then the replicates."""
    title = f"sweep {sweep.title} on {sweep.context.task.experiment}"
    known = ResultCache(sweep.context)
    with SweepDisplay(console, title, sweep.total) as display:
        load_history(sweep, display)
        for name in BASELINES:
            if name not in sweep.history.baselines:
                record(sweep, display, known.baseline(name) or run_baseline(sweep.context, name))
        # Low-memory updates happen within a backward pass, parameter by parameter: there is no stack of them.
        stack, replicate_stack = (layout.stack, layout.replicate_stack) if sweep.context.optimizer == "adamw" else (1, 1)
        jobs = JobQueue(
            sweep=sweep,
            known=known,
            display=display,
            lease=lease,
            stack=stack,
            replicate_stack=replicate_stack,
        )
        if not jobs.is_over:
            with _closed_after(executor_for(sweep.options, sweep.context, layout)) as executor:
                made = sweep.history.attempts
                dispatch = Dispatch(executor, sweep.context, display, made, sweep.options.attempts, jobs.on_epoch)
                dispatch.run(jobs.next_team, jobs.on_end)
                jobs.begin_replicates()
                dispatch.run(jobs.next_replicates, jobs.on_end)


@contextmanager
def _closed_after(executor: Executor) -> Iterator[Executor]:
    """Close the executor at the end. What stopped the sweep is not hidden by workers that cannot be closed after it."""
    try:
        yield executor
    except BaseException:
        with suppress(Exception):
            executor.close()
        raise
    executor.close()


def open_sweep(options: SweepOptions, context: Context, architectures: list[ArchitectureSpec]) -> Sweep:
    """The sweep with this fingerprint: a new parent run, or the one there is with all it knows."""
    identity = context.tags[schema.SWEEP_FINGERPRINT]
    space = SearchSpace.asked_for(options).for_training(len(context.task.prepared.split.train), options.epochs)
    known = sweep_with(context.store, context.experiment_id, identity)
    history = SweepHistory()
    if known:
        context = replace(context, parent_id=known)
        refuse_if_driven(*RunLog(context.store, known).tags_and_status())
        # A history that is refused must leave the parent as it ended.
        history = read_history(context, options.attempts)
        log = RunLog.reopen(context.store, known)
    else:
        log = parent.open_run(options, context, architectures, space)
        context = replace(context, parent_id=log.run_id)
        # Of two hosts that start the same sweep at the same moment, the one whose run came second gives way.
        first = sweep_with(context.store, context.experiment_id, identity)
        if first != log.run_id:
            context.store.client.delete_run(log.run_id)
            return open_sweep(options, replace(context, parent_id=""), architectures)
    total = _total(options, log.tags(), history)
    sweep = Sweep(
        options=options,
        log=log,
        context=context,
        architectures=architectures,
        space=space,
        proposer=_proposer(options, space, architectures),
        history=history,
        total=total,
    )
    parent.note_start(sweep)
    return sweep


def _total(options: SweepOptions, tags: dict[str, str], history: SweepHistory) -> int:
    """Trials in all. A supplement that was stopped before its end is finished, not added to."""
    settled = len(history.trials)
    if options.add_trials is None:
        return max(options.trials, settled)
    planned = int(tags.get(schema.TRIALS_PLANNED, 0))
    return planned if settled < planned else settled + options.add_trials


def _proposer(options: SweepOptions, space: SearchSpace, architectures: list[ArchitectureSpec]) -> TrialSampler:
    return TrialSampler(
        sampler=options.sampler,
        pruner=options.pruner,
        seed=options.seed,
        random_share=options.random_share,
        space=space,
        architectures=architectures,
        epochs=options.epochs,
    )
