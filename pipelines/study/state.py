"""State of a study's sweeps in MLflow and the number of trials planned for each. Opens and closes no runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipelines.options import SweepOptions
from pipelines.study.budget_list import StudySweep, SweepCost, busy_seconds, seconds_left
from pipelines.sweep.setup import SweepSetup
from research.fingerprint import fingerprint
from research.tracking import schema
from research.tracking.query import RunRecord, children, runs_with_tag
from research.tracking.schema import Outcome
from research.tracking.store import Store

Status = Literal["done", "running", "failed", "waiting"]
TRAINED: tuple[Outcome, ...] = ("complete", "pruned", "diverged")
"""Outcomes of runs that last as long as their training; other runs may have been closed long after it ended."""


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """State of one sweep in the store; the defaults describe a sweep that was never started."""

    outcome: Outcome | None = None
    """Outcome of the sweep; None also after its driver was killed."""
    settled: int = 0
    """Trials of the search that have an outcome."""
    planned: int = 0
    """Trials that the last start requested."""
    replicates_left: int = 0
    """Missing replicates of the configurations that lead at present."""
    best_loss: float | None = None
    seconds: float | None = None
    """Wall time per trial; with several workers less than the training time of a trial."""

    def is_over(self, target: int) -> bool:
        """Return whether another start of this sweep has nothing to do."""
        ended = self.outcome in ("complete", "crashed")
        return ended and self.settled >= target and not self.replicates_left

    def is_done(self, target: int) -> bool:
        """Return whether the sweep is over and has a result."""
        return self.is_over(target) and self.outcome == "complete"

    def trials_left(self, target: int, replicates: int) -> int:
        """Return the remaining trainings; an unfinished search adds `replicates`."""
        return target - self.settled + replicates if self.settled < target else self.replicates_left


@dataclass(frozen=True, kw_only=True)
class SweepProgress:
    """Progress of one sweep: a cell of the table."""

    sweep: StudySweep
    state: SweepStatus
    target: int
    status: Status
    reason: str = ""
    """Reason of the failure."""


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """Progress of a whole study."""

    sweeps: list[SweepProgress]
    elapsed: float
    """Seconds since this start."""
    left: float | None
    """Estimated remaining seconds; None before the first measurement."""

    @property
    def failed(self) -> list[SweepProgress]:
        """Return the sweeps that failed in this start."""
        return [sweep for sweep in self.sweeps if sweep.status == "failed"]

    @property
    def done(self) -> int:
        """Return the number of completed sweeps."""
        return sum(sweep.status == "done" for sweep in self.sweeps)


def read_state(store: Store, experiment_id: str, sweep_fingerprint: str, options: SweepOptions) -> SweepStatus:
    """Read the state of the sweep with this fingerprint from the store."""
    parents = runs_with_tag(store, experiment_id, schema.SWEEP_FINGERPRINT, sweep_fingerprint, kinds=("sweep",))
    if not parents:
        return SweepStatus()
    runs = [run for run in children(store, experiment_id, parents[0].run_id) if run.outcome not in (None, "interrupted")]
    trials = {run.params["number"]: run for run in runs if run.kind == "trial"}
    completed = [run for run in trials.values() if run.outcome == "complete"]
    best: dict[str, RunRecord] = {}
    for run in sorted(completed, key=lambda run: run.metrics["val_loss"]):
        best.setdefault(run.tags[schema.CONFIG_FINGERPRINT], run)
    leaders = list(best.values())
    return SweepStatus(
        outcome=parents[0].outcome,
        settled=len(trials),
        planned=int(parents[0].tags.get(schema.TRIALS_PLANNED, 0)),
        replicates_left=_replicates_left(leaders[: options.replicate_best], runs, options.replicates),
        best_loss=leaders[0].metrics["val_loss"] if leaders else None,
        seconds=_seconds_per_trial(runs),
    )


def _replicates_left(leaders: list[RunRecord], runs: list[RunRecord], replicates: int) -> int:
    """Count the pairs of configuration and seed that still have no replicate."""

    def pair(run: RunRecord, offset: int = 0) -> tuple[str, int]:
        return run.tags[schema.CONFIG_FINGERPRINT], int(run.params["seed"]) + offset

    wanted = {pair(run, offset) for run in leaders for offset in range(1, replicates + 1)}
    return len(wanted - {pair(run) for run in runs if run.kind == "replicate"})


def _seconds_per_trial(runs: list[RunRecord]) -> float | None:
    trained = [run for run in runs if run.kind in ("trial", "replicate") and run.outcome in TRAINED]
    spans = [(run.started, run.ended) for run in trained if run.ended and schema.LINKED not in run.tags]
    return busy_seconds(spans) / len(spans) if spans else None


def targets_of(options: SweepOptions, states: Mapping[str, SweepStatus], saved: Mapping[str, int]) -> dict[str, int]:
    """Return the total number of trials per sweep. An interrupted supplement is completed before another is added."""
    if options.add_trials is None:
        return {title: max(options.trials, state.settled) for title, state in states.items()}
    if saved and not all(state.is_over(saved[title]) for title, state in states.items()):
        return dict(saved)
    return {title: max(state.settled, state.planned) + options.add_trials for title, state in states.items()}


def study_fingerprint(sweep_fingerprints: list[str]) -> str:
    """Return the identity of a study, which does not depend on the requested number of trials."""
    return fingerprint({"sweeps": sorted(sweep_fingerprints)})


def saved_targets(store: Store, experiment_id: str, study: str) -> dict[str, int]:
    """Return the trials per sweep that the last start of this study requested; empty before the first."""
    text = store.client.get_experiment(experiment_id).tags.get(f"{schema.LADDER_TARGETS}/{study}", "{}")
    return {title: int(target) for title, target in json.loads(text).items()}


def save_targets(store: Store, experiment_id: str, study: str, targets: Mapping[str, int]) -> None:
    """Save all targets in one call, so that a kill cannot leave old and new numbers mixed."""
    store.client.set_experiment_tag(experiment_id, f"{schema.LADDER_TARGETS}/{study}", json.dumps(targets))


@dataclass(frozen=True, kw_only=True)
class PlannedSweep:
    """A checked sweep that can start at once."""

    sweep: StudySweep
    options: SweepOptions
    fingerprint: str
    """Fingerprint of the sweep."""
    sizes: tuple[int, ...]
    """Parameter counts of the searched architectures, ascending."""
    left_out: int
    """Number of architectures that do not fit in this machine's memory."""
    thin: tuple[str, ...]
    """Sentences about evidence below the floor, if the options allow it."""
    flops: float
    """Mean FLOPs of one epoch over the architectures."""

    @property
    def title(self) -> str:
        """Return the name of the sweep."""
        return self.sweep.title


@dataclass(kw_only=True)
class Study:
    """A running study; everything except the failures can be read from MLflow again."""

    context: SweepSetup
    """Setup of the first sweep; all sweeps have the same store and experiment."""
    sweeps: list[PlannedSweep]
    states: dict[str, SweepStatus]
    targets: dict[str, int]
    """Total number of trials per sweep."""
    finishing: bool = False
    """True while a requested supplement waits for the trials of an earlier start."""
    failures: dict[str, str] = field(default_factory=dict)
    running: str = ""
    started: float = field(default_factory=time.monotonic)

    def read(self, sweep: PlannedSweep) -> None:
        """Update the state of a sweep from the store."""
        self.states[sweep.title] = read_state(self.context.store, self.context.experiment_id, sweep.fingerprint, sweep.options)

    def status(self, title: str) -> Status:
        """Return the status of a sweep."""
        if title == self.running:
            return "running"
        if self.states[title].is_done(self.targets[title]):
            return "done"
        return "failed" if title in self.failures else "waiting"

    def progress(self) -> StudyProgress:
        """Return the progress. A failed sweep is not tried again by this start and adds no remaining time."""
        sweeps, costs = [], []
        for planned in self.sweeps:
            title, options = planned.title, planned.options
            state, target, reason = self.states[title], self.targets[title], self.failures.get(title, "")
            sweeps.append(
                SweepProgress(sweep=planned.sweep, state=state, target=target, status=self.status(title), reason=reason)
            )
            replicates = options.replicates * min(options.replicate_best, target)
            left = 0 if title in self.failures else state.trials_left(target, replicates)
            costs.append(SweepCost(flops=planned.flops, trials_left=left, seconds=state.seconds))
        return StudyProgress(sweeps=sweeps, elapsed=time.monotonic() - self.started, left=seconds_left(costs))
