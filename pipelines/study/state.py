"""What MLflow knows about the sweeps of a ladder, and how many trials each is to have. Nothing is opened or closed here."""

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
"""Outcomes whose runs lasted as long as their training; others may have been closed long after it ended."""


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """One sweep of a ladder as it stands in the store; the values are those of a sweep that was never started."""

    outcome: Outcome | None = None
    """Of the sweep; None also where its driver was killed."""
    settled: int = 0
    """Trials of the search that have their outcome."""
    planned: int = 0
    """Trials that its last start asked for."""
    replicates_left: int = 0
    """Of the configurations that lead at present."""
    best_loss: float | None = None
    seconds: float | None = None
    """Of one trial on the wall: with several workers less than its training took."""

    def is_over(self, target: int) -> bool:
        """Whether another start of this sweep would find nothing to do."""
        ended = self.outcome in ("complete", "crashed")
        return ended and self.settled >= target and not self.replicates_left

    def is_done(self, target: int) -> bool:
        """Whether it is over and has a result."""
        return self.is_over(target) and self.outcome == "complete"

    def trials_left(self, target: int, replicates: int) -> int:
        """Trainings to come; `replicates` are those of a search that has not ended."""
        return target - self.settled + replicates if self.settled < target else self.replicates_left


@dataclass(frozen=True, kw_only=True)
class SweepProgress:
    """One cell of the overall view."""

    rung: StudySweep
    state: SweepStatus
    target: int
    status: Status
    reason: str = ""
    """Why it failed."""


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """The overall view in numbers."""

    cells: list[SweepProgress]
    elapsed: float
    """Seconds since this start."""
    left: float | None
    """Seconds; None before anything was measured."""

    @property
    def failed(self) -> list[SweepProgress]:
        """Rungs that this start tried in vain."""
        return [cell for cell in self.cells if cell.status == "failed"]

    @property
    def done(self) -> int:
        """Rungs that need nothing more."""
        return sum(cell.status == "done" for cell in self.cells)


def read_state(store: Store, experiment_id: str, sweep_fingerprint: str, options: SweepOptions) -> SweepStatus:
    """The state of the sweep with this fingerprint."""
    parents = runs_with_tag(store, experiment_id, schema.SWEEP_FINGERPRINT, sweep_fingerprint, kinds=("sweep",))
    if not parents:
        return SweepStatus()
    runs = [run for run in children(store, experiment_id, parents[0].run_id) if run.outcome not in (None, "interrupted")]
    trials = {run.params["number"]: run for run in runs if run.kind == "trial"}
    best = _best(list(trials.values()))
    return SweepStatus(
        outcome=parents[0].outcome,
        settled=len(trials),
        planned=int(parents[0].tags.get(schema.TRIALS_PLANNED, 0)),
        replicates_left=_replicates_left(best[: options.replicate_best], runs, options.replicates),
        best_loss=best[0].metrics["val_loss"] if best else None,
        seconds=_seconds_of_a_trial(runs),
    )


def _best(trials: list[RunRecord]) -> list[RunRecord]:
    """The best complete trial of each configuration, best first."""
    found: dict[str, RunRecord] = {}
    for run in sorted((run for run in trials if run.outcome == "complete"), key=lambda run: run.metrics["val_loss"]):
        found.setdefault(run.tags[schema.CONFIG_FINGERPRINT], run)
    return list(found.values())


def _replicates_left(best: list[RunRecord], runs: list[RunRecord], replicates: int) -> int:
    wanted = {_identity(run, offset) for run in best for offset in range(1, replicates + 1)}
    return len(wanted - {_identity(run) for run in runs if run.kind == "replicate"})


def _identity(run: RunRecord, offset: int = 0) -> tuple[str, int]:
    return run.tags[schema.CONFIG_FINGERPRINT], int(run.params["seed"]) + offset


def _seconds_of_a_trial(runs: list[RunRecord]) -> float | None:
    trained = [run for run in runs if run.kind in ("trial", "replicate") and run.outcome in TRAINED]
    spans = [(run.started, run.ended) for run in trained if run.ended and schema.LINKED not in run.tags]
    return busy_seconds(spans) / len(spans) if spans else None


def targets_of(options: SweepOptions, states: Mapping[str, SweepStatus], remembered: Mapping[str, int]) -> dict[str, int]:
    """Trials that each rung is to have in all. A supplement that was stopped on any rung is finished, not added to."""
    if options.add_trials is None:
        return {title: max(options.trials, state.settled) for title, state in states.items()}
    if remembered and not all(state.is_over(remembered[title]) for title, state in states.items()):
        return dict(remembered)
    return {title: max(state.settled, state.planned) + options.add_trials for title, state in states.items()}


def study_fingerprint(sweep_fingerprints: list[str]) -> str:
    """The same for every start of one study, whatever number of trials it asks for."""
    return fingerprint({"sweeps": sorted(sweep_fingerprints)})


def remembered_targets(store: Store, experiment_id: str, ladder: str) -> dict[str, int]:
    """Trials per rung that the last start of this study asked for; empty before the first."""
    text = store.client.get_experiment(experiment_id).tags.get(_name(ladder), "{}")
    return {title: int(target) for title, target in json.loads(text).items()}


def remember_targets(store: Store, experiment_id: str, ladder: str, targets: Mapping[str, int]) -> None:
    """Write them down in one call, so that no kill leaves some rungs with the old number and some with the new one."""
    store.client.set_experiment_tag(experiment_id, _name(ladder), json.dumps(targets))


def _name(ladder: str) -> str:
    return f"{schema.LADDER_TARGETS}/{ladder}"


@dataclass(frozen=True, kw_only=True)
class PlannedSweep:
    """A rung that has been checked and could start at once."""

    rung: StudySweep
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
class Study:
    """A study on its way; all but the failures can be read from MLflow again."""

    context: SweepSetup
    """Of the first rung; the store and the experiment are the same for all."""
    steps: list[PlannedSweep]
    states: dict[str, SweepStatus]
    targets: dict[str, int]
    """Trials that each rung is to have in all."""
    finishing: bool = False
    """Whether a supplement that was asked for has to wait until an earlier start's trials are done."""
    failures: dict[str, str] = field(default_factory=dict)
    running: str = ""
    started: float = field(default_factory=time.monotonic)

    def read(self, step: PlannedSweep) -> None:
        """Bring one rung's state up to date."""
        self.states[step.title] = read_state(self.context.store, self.context.experiment_id, step.fingerprint, step.options)

    def status(self, title: str) -> Status:
        """One word for a rung."""
        if title == self.running:
            return "running"
        if self.states[title].is_done(self.targets[title]):
            return "done"
        return "failed" if title in self.failures else "waiting"

    def overview(self) -> StudyProgress:
        """The overall view in numbers. A rung that failed is not tried again by this start and takes no more time."""
        cells = [
            SweepProgress(
                rung=step.rung,
                state=self.states[step.title],
                target=self.targets[step.title],
                status=self.status(step.title),
                reason=self.failures.get(step.title, ""),
            )
            for step in self.steps
        ]
        efforts = [self._effort(step) for step in self.steps]
        return StudyProgress(cells=cells, elapsed=time.monotonic() - self.started, left=seconds_left(efforts))

    def _effort(self, step: PlannedSweep) -> SweepCost:
        state, target = self.states[step.title], self.targets[step.title]
        replicates = step.options.replicates * min(step.options.replicate_best, target)
        left = 0 if step.title in self.failures else state.trials_left(target, replicates)
        return SweepCost(flops=step.flops, trials_left=left, seconds=state.seconds)
