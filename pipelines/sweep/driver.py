"""The driver of a sweep. MLflow has a trial's result before the sampler does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console

from pipelines.executors.base import Executor
from pipelines.executors.choose import Layout, executor_for, layout_for
from pipelines.options import SweepOptions
from pipelines.sweep import parent_run
from pipelines.sweep.dispatcher import Dispatch
from pipelines.sweep.driver_lock import DriverLease, TakenOverError, only_driver, refuse_if_driven
from pipelines.sweep.history import SweepHistory, close_open_children, read_history
from pipelines.sweep.job_queue import JobQueue, load_history, record
from pipelines.sweep.messages import print_history, print_summary
from pipelines.sweep.progress import SweepDisplay
from pipelines.sweep.result_reuse import ResultCache
from pipelines.sweep.sampler import TrialSampler
from pipelines.sweep.search_space import SearchSpace
from pipelines.sweep.setup import SweepSetup, prepare
from pipelines.sweep.state import Sweep
from pipelines.trial.baseline_run import run_baseline
from research.models.baselines import BASELINES
from research.tracking import schema
from research.tracking.query import sweep_with
from research.tracking.registry import RegisteredVersion
from research.tracking.retry import StoreUnavailable
from research.tracking.run_writer import RunLog


def run_sweep(options: SweepOptions, console: Console, *, brief: bool = False) -> Sweep:
    """Start or continue a sweep and close it; raises `KeyboardInterrupt` after putting the store in order.

    `brief` leaves out the opening and the summary, for one of many sweeps.
    """
    setup = prepare(options, Console(quiet=True) if brief else console)
    with only_driver(setup.store, setup.tags[schema.SWEEP_FINGERPRINT]):
        sweep = open_sweep(options, setup)
        with DriverLease(sweep.log) as lease:
            registered = _run_and_close(sweep, lease, console)
    if not brief:
        print_summary(sweep, registered, console)
    return sweep


def _run_and_close(sweep: Sweep, lease: DriverLease, console: Console) -> RegisteredVersion | None:
    left = sweep.total - len(sweep.history.trials)
    try:
        layout = layout_for(sweep.options, sweep.runtime.device, sweep.architectures, left, sweep.context.optimizer)
        print_history(sweep, layout, console)
        _run(sweep, layout, lease, console)
        lease.confirm()
        close_open_children(sweep.context)
        return parent_run.close(sweep)
    except StoreUnavailable:
        # Nothing can be written. The next start closes the runs that a dead driver left open.
        raise
    except BaseException as error:
        _abandon(sweep, lease, error)
        raise


def _abandon(sweep: Sweep, lease: DriverLease, error: BaseException) -> None:
    """Close all runs, unless another driver has taken the sweep over and uses them."""
    with suppress(TakenOverError):
        lease.confirm()
        close_open_children(sweep.context)
        parent_run.abandon(sweep, error)


def _run(sweep: Sweep, layout: Layout, lease: DriverLease, console: Console) -> None:
    """Run the missing baselines, then the trials that have no outcome, then the replicates."""
    title = f"sweep {sweep.title} on {sweep.context.task.experiment}"
    known = ResultCache(sweep.context)
    with SweepDisplay(console, title, sweep.total) as display:
        load_history(sweep, display)
        for name in BASELINES:
            if name not in sweep.history.baselines:
                record(sweep, display, known.baseline(name) or run_baseline(sweep.context, name))
        # Low-memory training updates weights within the backward pass and cannot be stacked.
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
            with _closed_after(executor_for(sweep.options, sweep.context, sweep.runtime, layout)) as executor:
                counts = sweep.history.attempt_counts
                dispatch = Dispatch(executor, sweep.context, display, counts, sweep.options.attempts, jobs.may_continue)
                dispatch.run(jobs.next_stack, jobs.on_end)
                jobs.begin_replicates()
                dispatch.run(jobs.next_replicates, jobs.on_end)


@contextmanager
def _closed_after(executor: Executor) -> Iterator[Executor]:
    """Close the executor at the end. An error while closing does not hide the error that stopped the sweep."""
    try:
        yield executor
    except BaseException:
        with suppress(Exception):
            executor.close()
        raise
    executor.close()


def open_sweep(options: SweepOptions, setup: SweepSetup) -> Sweep:
    """Open the sweep with the options' fingerprint: continue its parent run, or start one if there is none."""
    store, experiment_id, identity = setup.store, setup.experiment_id, setup.tags[schema.SWEEP_FINGERPRINT]
    space = SearchSpace.of_options(options).for_training(len(setup.task.prepared.split.train), options.epochs)
    history = SweepHistory()
    if parent_id := sweep_with(store, experiment_id, identity):
        refuse_if_driven(*RunLog(store, parent_id).tags_and_status())
        # The history is read first: if it is refused, the parent must stay closed.
        history = read_history(setup.context(parent_id), options.attempts)
        log = RunLog.reopen(store, parent_id)
    else:
        log = parent_run.open_run(options, setup, space)
        # If two hosts start the same sweep at the same moment, the host whose run came second gives way.
        if sweep_with(store, experiment_id, identity) != log.run_id:
            store.client.delete_run(log.run_id)
            return open_sweep(options, setup)
    sweep = Sweep(
        options=options,
        context=setup.context(log.run_id),
        runtime=setup.runtime,
        log=log,
        architectures=setup.architectures,
        space=space,
        proposer=TrialSampler(
            sampler=options.sampler,
            pruner=options.pruner,
            seed=options.seed,
            random_share=options.random_share,
            space=space,
            architectures=setup.architectures,
            epochs=options.epochs,
        ),
        history=history,
        total=_total(options, log.tags(), history),
    )
    parent_run.note_start(sweep)
    return sweep


def _total(options: SweepOptions, tags: dict[str, str], history: SweepHistory) -> int:
    """Return the number of trials in all. A supplement that was stopped early is finished, not extended."""
    settled = len(history.trials)
    if options.add_trials is None:
        return max(options.trials, settled)
    planned = int(tags.get(schema.TRIALS_PLANNED, 0))
    return planned if settled < planned else settled + options.add_trials
