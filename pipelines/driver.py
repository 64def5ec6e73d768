"""The sweep's driver: Optuna proposes, trials run, MLflow remembers, and only then is the sampler told."""

from __future__ import annotations

from dataclasses import dataclass, field

import optuna
from rich.console import Console

from pipelines import parent, summary
from pipelines.options import SweepOptions
from pipelines.resume import History, only_driver, read_history
from pipelines.sampler import SAMPLER, new_study, propose, tell
from pipelines.search import Fixed, SearchSpace, Suggested, admits, first_suggestions, trial_spec
from pipelines.study import Study, prepare_study
from pipelines.terminal import SweepDisplay
from pipelines.trial import Finished, run_baseline, run_trial
from pipelines.trial_record import Context
from research.models.architectures import Budget, architectures_for
from research.models.baselines import BASELINES
from research.runtime import DEFAULT_THREADS, Runtime, choose_device, hardware
from research.spec import ArchitectureSpec, fingerprint, require
from research.tracking import schema
from research.tracking.provenance import provenance
from research.tracking.query import sweep_with
from research.tracking.runs import RunLog
from research.tracking.store import open_store


@dataclass(kw_only=True)
class Sweep:
    """The state of a running sweep."""

    options: SweepOptions
    context: Context
    log: RunLog
    architectures: list[ArchitectureSpec]
    space: SearchSpace
    optuna_study: optuna.Study
    history: History
    """What earlier starts of this sweep left in MLflow."""
    finished: list[Finished] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Name of the sweep, for example `20K-h1`."""
        return f"{self.context.budget.label}-h{self.options.horizon}"

    @property
    def trials(self) -> list[Finished]:
        """Finished trials, without the baselines."""
        return [one for one in self.finished if one.kind == "trial"]

    @property
    def best(self) -> Finished | None:
        """Best complete trial so far."""
        complete = [one for one in self.trials if one.outcome == "complete"]
        return min(complete, key=lambda one: one.val_loss, default=None)


def run_sweep(options: SweepOptions, console: Console) -> Sweep:
    """Start or continue a sweep and close it; raises `KeyboardInterrupt` after putting the store in order."""
    context, architectures = prepare(options, console)
    with only_driver(context.store, context.tags[schema.SWEEP_FINGERPRINT]):
        sweep = open_sweep(options, context, architectures)
        summary.print_history(sweep, console)
        try:
            _run(sweep, console)
            registered = parent.close(sweep)
        except BaseException as problem:
            _abandon(sweep, problem)
            raise
    summary.print_summary(sweep, registered, console)
    return sweep


def _run(sweep: Sweep, console: Console) -> None:
    """Every baseline and every trial number that has no outcome yet, in order."""
    title = f"sweep {sweep.title} on {sweep.context.study.experiment}"
    first = first_suggestions(sweep.architectures, sweep.space)
    with SweepDisplay(console, title, sweep.options.trials, sweep.options.epochs) as display:
        for name in BASELINES:
            known = sweep.history.baselines.get(name)
            _record(sweep, display, known or run_baseline(sweep.context, sweep.log.run_id, name))
        for number, earlier in sorted(sweep.history.settled.items()):
            _tell_again(sweep, sweep.history.suggested[number], earlier)
            _record(sweep, display, earlier)
        for number in range(sweep.options.trials):
            if number not in sweep.history.settled:
                _one_trial(sweep, display, number, first)


def _abandon(sweep: Sweep, problem: BaseException) -> None:
    """Close the parent of a sweep that did not get to its end; what had finished stays and counts."""
    stopped = isinstance(problem, KeyboardInterrupt)
    why = "stopped by the user" if stopped else type(problem).__name__
    best = {schema.BEST_RUN: sweep.best.run_id} if sweep.best else {}
    reason = f"{why} after {len(sweep.trials)} of {sweep.options.trials} trials"
    sweep.log.finish("interrupted" if stopped else "crashed", tags={**best, schema.REASON: reason})


def prepare(options: SweepOptions, console: Console) -> tuple[Context, list[ArchitectureSpec]]:
    """Data, grid and device of a sweep. Everything that can be refused is refused here, before it has a run."""
    budget = Budget.parse(options.budget)
    for name in ("trials", "epochs", "patience"):
        require(getattr(options, name) >= 1, name.upper(), getattr(options, name), "give 1 or more.")
    device = choose_device(options.device)
    threads = DEFAULT_THREADS if options.threads is None else options.threads
    runtime = Runtime(device=device, threads=threads, micro_batch=options.micro_batch)
    runtime.apply()
    store = open_store(options.store)
    study = prepare_study(options, store)
    architectures = _architectures(options, study, budget)
    summary.print_opening(study, budget, architectures, device, console)
    record = provenance(hardware(device))
    identity = {schema.SWEEP_FINGERPRINT: _fingerprint(options, study, budget)}
    context = Context(
        store=store,
        experiment_id=store.experiment(study.experiment),
        study=study,
        dataset=study.prepared.dataset(device),
        budget=budget,
        runtime=runtime,
        provenance=record,
        tags={**study.tags(), **record.tags("pipelines.sweep"), **identity},
    )
    return context, architectures


def open_sweep(options: SweepOptions, context: Context, architectures: list[ArchitectureSpec]) -> Sweep:
    """The sweep with this fingerprint: a new parent run, or the one there is with all it knows."""
    identity = context.tags[schema.SWEEP_FINGERPRINT]
    space = SearchSpace().for_training(len(context.study.prepared.split.train), options.epochs)
    known = sweep_with(context.store, context.experiment_id, identity)
    if known:
        # A history that is refused must leave the parent as it ended.
        earlier = read_history(context.store, context.experiment_id, known, context.study.spec)
        log = RunLog.reopen(context.store, known)
    else:
        log = parent.open_run(options, context, architectures, space, SAMPLER)
        earlier = History(settled={}, suggested={}, baselines={})
    return Sweep(
        options=options,
        log=log,
        context=context,
        architectures=architectures,
        space=space,
        optuna_study=new_study(),
        history=earlier,
    )


def _architectures(options: SweepOptions, study: Study, budget: Budget) -> list[ArchitectureSpec]:
    """The budget's grid at the context and the number of features that the study really has."""
    template = ArchitectureSpec(
        d_model=1,
        n_layers=1,
        n_heads=1,
        d_ff=1,
        context_length=study.prepared.context_length,
        n_features=len(study.prepared.matrix.columns),
        window_norm=options.window_norm,
    )
    return architectures_for(budget, template)


def _fingerprint(options: SweepOptions, study: Study, budget: Budget) -> str:
    """What makes two sweeps the same one; the grid, the ranges and the number of trials may grow."""
    identity = {
        "study": study.spec,
        "budget": budget,
        "context": options.context,
        "epochs": options.epochs,
        "patience": options.patience,
        "window_norm": options.window_norm,
        "seed": options.seed,
    }
    return fingerprint(identity)


def _one_trial(sweep: Sweep, display: SweepDisplay, number: int, first: list[Suggested]) -> None:
    """Propose, train, tell. The extremes of the grid come first; an interrupted trial keeps what was proposed for it."""
    options = sweep.options
    enqueued = number < len(first)
    planned = sweep.history.suggested.get(number, first[number] if enqueued else None)
    if planned and not admits(planned, sweep.space, sweep.architectures):
        planned = None
    trial, suggested = propose(sweep.optuna_study, options.seed, number, sweep.space, sweep.architectures, planned)
    fixed = Fixed(study=sweep.context.study.spec, epochs=options.epochs, patience=options.patience, seed=options.seed)
    spec = trial_spec(suggested, fixed, sweep.architectures)
    display.trial_started(f"{number:04d} {spec.architecture.label}")
    finished = run_trial(
        sweep.context,
        sweep.log.run_id,
        number,
        spec,
        suggested,
        "enqueued" if enqueued else SAMPLER,
        display,
        leading_loss=sweep.best.val_loss if sweep.best else float("inf"),
    )
    # MLflow has the outcome before the sampler hears of it.
    tell(sweep.optuna_study, trial, finished)
    _record(sweep, display, finished)


def _tell_again(sweep: Sweep, suggested: Suggested, finished: Finished) -> None:
    """Tell the fresh study about a trial of an earlier start, unless the present ranges have no place for it."""
    if admits(suggested, sweep.space, sweep.architectures):
        trial, again = propose(sweep.optuna_study, 0, 0, sweep.space, sweep.architectures, suggested)
        assert again == suggested
        tell(sweep.optuna_study, trial, finished)


def _record(sweep: Sweep, display: SweepDisplay, finished: Finished) -> None:
    """Put a finished run into the table and onto the parent."""
    sweep.finished.append(finished)
    display.run_finished(finished)
    parent.update(sweep)
