"""The sweep's driver: Optuna proposes, trials run, MLflow remembers, and only then is the sampler told."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace

import optuna
from rich.console import Console

from pipelines import parent, summary
from pipelines.options import SweepOptions
from pipelines.search import Fixed, SearchSpace, Suggested, first_suggestions, suggest, trial_spec
from pipelines.study import Study, prepare_study
from pipelines.terminal import SweepDisplay
from pipelines.trial import Finished, run_baseline, run_trial
from pipelines.trial_record import Context
from research.models.architectures import Budget, architectures_for
from research.models.baselines import BASELINES
from research.runtime import Runtime, choose_device, hardware
from research.spec import ArchitectureSpec, fingerprint, require
from research.tracking import schema
from research.tracking.provenance import provenance
from research.tracking.runs import RunLog
from research.tracking.store import open_store

SAMPLER = "TPE"


@dataclass(kw_only=True)
class Sweep:
    """The state of a running sweep."""

    options: SweepOptions
    context: Context
    log: RunLog
    architectures: list[ArchitectureSpec]
    space: SearchSpace
    sampler: optuna.Study
    n_enqueued: int
    finished: list[Finished] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Name of the sweep, for example `20K-h1`."""
        return f"{self.context.budget.label}-h{self.options.horizon}"

    @property
    def best(self) -> Finished | None:
        """Best complete trial so far."""
        complete = [one for one in self.finished if one.kind == "trial" and one.outcome == "complete"]
        return min(complete, key=lambda one: one.val_loss, default=None)


def run_sweep(options: SweepOptions, console: Console) -> Sweep:
    """Prepare, run and close a sweep; raises `KeyboardInterrupt` after putting the store in order."""
    sweep = open_sweep(options, console)
    display = SweepDisplay(console, f"sweep {sweep.title} on {sweep.context.study.experiment}", options.trials, options.epochs)
    try:
        with display:
            for name in BASELINES:
                _record(sweep, display, run_baseline(sweep.context, sweep.log.run_id, name))
            for number in range(options.trials):
                _one_trial(sweep, display, number)
        registered = parent.close(sweep)
    except BaseException as problem:
        _abandon(sweep, problem)
        raise
    summary.print_summary(sweep, registered, console)
    return sweep


def _abandon(sweep: Sweep, problem: BaseException) -> None:
    """Close the parent of a sweep that did not get to its end; what had finished stays and counts."""
    done = sum(one.kind == "trial" for one in sweep.finished)
    stopped = isinstance(problem, KeyboardInterrupt)
    reason = f"{'stopped by the user' if stopped else type(problem).__name__} after {done} of {sweep.options.trials} trials"
    best = {schema.BEST_RUN: sweep.best.run_id} if sweep.best else {}
    sweep.log.finish("interrupted" if stopped else "crashed", tags={**best, schema.REASON: reason})


def open_sweep(options: SweepOptions, console: Console) -> Sweep:
    """Everything that can be refused is refused here, before the parent run exists."""
    budget = Budget.parse(options.budget)
    for name in ("trials", "epochs", "patience"):
        require(getattr(options, name) >= 1, name.upper(), getattr(options, name), "give 1 or more.")
    device = choose_device(options.device)
    store = open_store(options.store)
    study = prepare_study(options, store)
    architectures = _architectures(options, study, budget)
    summary.print_opening(study, budget, architectures, device, console)
    record = provenance(hardware(device))
    context = Context(
        store=store,
        experiment_id=store.experiment(study.experiment),
        study=study,
        dataset=study.prepared.dataset(device),
        budget=budget,
        runtime=Runtime(device=device, micro_batch=options.micro_batch),
        provenance=record,
        tags={
            **study.tags(),
            **record.tags("pipelines.sweep"),
            schema.SWEEP_FINGERPRINT: _fingerprint(options, study, budget),
        },
    )
    space = SearchSpace().for_training(len(study.prepared.split.train), options.epochs)
    first = first_suggestions(architectures, space)
    return Sweep(
        options=options,
        log=parent.open_run(options, context, architectures, space, SAMPLER),
        context=context,
        architectures=architectures,
        space=space,
        sampler=make_sampler(options.seed, first),
        n_enqueued=len(first),
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


def make_sampler(seed: int, first: list[Suggested]) -> optuna.Study:
    """An in-memory study; the extremes of the grid are proposed first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # `group` keeps conditional choices (a feed-forward ratio that only some shapes have) in the joint model.
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    study = optuna.create_study(sampler=sampler, direction="minimize")
    for suggested in first:
        study.enqueue_trial(suggested)
    return study


def _one_trial(sweep: Sweep, display: SweepDisplay, number: int) -> None:
    trial = sweep.sampler.ask()
    suggested = suggest(trial, sweep.space, sweep.architectures)
    options = sweep.options
    fixed = Fixed(study=sweep.context.study.spec, epochs=options.epochs, patience=options.patience, seed=options.seed)
    spec = trial_spec(suggested, fixed, sweep.architectures)
    display.trial_started(f"{number:04d} {spec.architecture.label}")
    # The extremes of the grid were put into the queue before the sampler's own proposals.
    proposed_by = "enqueued" if number < sweep.n_enqueued else SAMPLER
    finished = run_trial(sweep.context, sweep.log.run_id, number, spec, suggested, proposed_by, display)
    # MLflow has the outcome before the sampler hears of it; a failure has no value, never a sentinel number.
    if finished.outcome == "complete":
        sweep.sampler.tell(trial, finished.val_loss)
    else:
        sweep.sampler.tell(trial, state=optuna.trial.TrialState.FAIL)
    _record(sweep, display, finished)


def _record(sweep: Sweep, display: SweepDisplay, finished: Finished) -> None:
    """Put a finished run into the table and onto the parent; only the best trial keeps its weights in memory."""
    sweep.finished.append(finished)
    best = sweep.best
    sweep.finished = [one if one is best else replace(one, weights=None) for one in sweep.finished]
    display.run_finished(finished)
    parent.update(sweep)
