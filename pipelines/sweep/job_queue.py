"""The jobs of a sweep, in order, and the sampler's updates from their results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipelines.sweep import parent_run
from pipelines.sweep.driver_lock import DriverLease
from pipelines.sweep.progress import SweepDisplay
from pipelines.sweep.replicates import best_configurations, replicate_jobs
from pipelines.sweep.result_reuse import ResultCache
from pipelines.sweep.sampler import CURVES_NEEDED, RANDOM, Suggestion
from pipelines.sweep.search_space import FixedSettings, Suggested, expressible, first_suggestions, structure_of, trial_spec
from pipelines.sweep.state import Sweep
from pipelines.trial.job import Job, JobStack, TrialResult
from research.tracking import schema
from research.tracking.query import histories
from research.training.trial_state import EpochRecord


def load_history(sweep: Sweep, display: SweepDisplay) -> None:
    """Show the results of earlier starts and add their trials to the sampler."""
    trials = sweep.history.trials
    curves: dict[str, dict[int, float]] = {}
    if sweep.options.pruner in CURVES_NEEDED:
        curves = histories(sweep.context.store, [one.run_id for one in trials.values()], f"{schema.EPOCH_PREFIX}val_loss")
    for number, one in trials.items():
        sweep.proposer.recall(sweep.history.suggested[number], one, curves.get(one.run_id))
    for one in [*sweep.history.baselines.values(), *sweep.history.settled.values()]:
        sweep.finished.append(one)
        display.add_result(one)


def record(sweep: Sweep, display: SweepDisplay, finished: TrialResult) -> None:
    """Show a finished run and update the parent run."""
    sweep.finished.append(finished)
    display.run_finished(finished)
    parent_run.update(sweep)


@dataclass(kw_only=True)
class JobQueue:
    """Makes the jobs of a sweep and passes their results to the sampler."""

    sweep: Sweep
    known: ResultCache
    display: SweepDisplay
    lease: DriverLease
    stack: int = 1
    """Trials of the search that are trained as one model."""
    replicate_stack: int = 1
    """Replicates that are trained as one model."""
    _numbers: list[int] = field(init=False)
    _first: list[Suggested] = field(init=False)
    _proposals: dict[int, Suggestion] = field(init=False, default_factory=dict)
    _replicates: list[Job] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        sweep = self.sweep
        settled = sweep.history.trials
        # A used number beyond the total belongs to a trial that a stopped supplement left open.
        self._numbers = [number for number in range(max(sweep.total, *settled, 0) + 1) if number not in settled]
        self._numbers = self._numbers[: sweep.total - len(settled)]
        self._first = first_suggestions(sweep.architectures, sweep.space, sweep.history.suggested.values())

    @property
    def is_over(self) -> bool:
        """True if neither trials nor replicates are left to train."""
        return not self._numbers and not self._missing_replicates()

    def next_stack(self) -> JobStack | None:
        """Return the next trials to train as one model, or None. Known results are linked on the way."""
        leader = self.next_job()
        return None if leader is None else (leader, *self._companions(leader))

    def next_job(self) -> Job | None:
        """Return the next trial to train, of any shape, or None."""
        while self._numbers:
            number = self._numbers.pop(0)
            job = self._new(number, self.sweep.proposer.propose(number, self._planned(number)))
            if job is not None:
                return job
        return None

    def _companions(self, leader: Job) -> Iterator[Job]:
        """Yield trials with the leader's architecture and batch size and settings of their own, to fill its stack.

        Random trials take no part, as leader or companion, since their shapes must be drawn one by one.
        """
        proposer = self.sweep.proposer
        if leader.tags[schema.PROPOSED_BY] == RANDOM:
            return
        structure = structure_of(json.loads(leader.tags[schema.SUGGESTED]))
        known = self.sweep.history.suggested
        open_numbers = [number for number in self._numbers if number not in known and not proposer.is_random(number)]
        # The ends of the grid that are still to be tried keep their places.
        for number in open_numbers[len(self._first) :][: self.stack - 1]:
            self._numbers.remove(number)
            job = self._new(number, proposer.propose(number, fixed=structure), companion_of=leader)
            if job is not None:
                yield job

    def _new(self, number: int, proposal: Suggestion, companion_of: Job | None = None) -> Job | None:
        """Return the job of a proposal, or None if the store has its result, which is then linked."""
        self.lease.check()
        self._proposals[number] = proposal
        sweep, options = self.sweep, self.sweep.options
        fixed = FixedSettings(
            task=sweep.context.task.spec,
            epochs=options.epochs,
            patience=options.patience,
            seed=options.seed,
            base_width=options.base_width,
            optimizer=sweep.context.optimizer,
        )
        tags = {schema.SUGGESTED: json.dumps(proposal.suggested), schema.PROPOSED_BY: proposal.proposed_by}
        job = Job(
            number=number,
            spec=trial_spec(proposal.suggested, fixed, sweep.architectures),
            tags=tags if companion_of is None else {**tags, schema.COMPANION_OF: companion_of.name},
            leading_loss=sweep.leading_loss,
        )
        linked = self.known.trial(job)
        if linked is None:
            return job
        self.on_end(job, linked)
        return None

    def begin_replicates(self) -> None:
        """Choose the replicates when the search is over."""
        self._replicates = self._missing_replicates()

    def next_replicates(self) -> JobStack | None:
        """Return the next replicates of one configuration to train as one model, or None."""
        stack: list[Job] = []
        while self._replicates and len(stack) < self.replicate_stack:
            self.lease.check()
            job = self._replicates[0]
            if stack and job.spec.config_fingerprint != stack[0].spec.config_fingerprint:
                break
            self._replicates.pop(0)
            linked = self.known.trial(job)
            if linked is None:
                stack.append(job)
            else:
                self.on_end(job, linked)
        return tuple(stack) or None

    def may_continue(self, job: Job, record: EpochRecord) -> bool:
        """Return False if the pruner stops this trial."""
        if job.kind == "replicate":
            return True
        return self.sweep.proposer.report(self._proposals[job.number], record.epoch, record.val_loss)

    def on_end(self, job: Job, finished: TrialResult) -> None:
        """Pass a result to the sampler and the parent run. MLflow already has it."""
        self.lease.check()
        if job.kind == "trial":
            self.sweep.proposer.tell(self._proposals.pop(job.number), finished)
        record(self.sweep, self.display, finished)

    def _planned(self, number: int) -> Suggested | None:
        """Return the settings of an interrupted trial, else the next end of the grid, else None."""
        sweep = self.sweep
        if number not in sweep.history.suggested:
            return self._first.pop(0) if self._first else None
        earlier = sweep.history.suggested[number]
        return earlier if expressible(earlier, sweep.space, sweep.architectures) == earlier else None

    def _missing_replicates(self) -> list[Job]:
        sweep = self.sweep
        best = best_configurations(sweep.trials, sweep.options.replicate_best)
        done = {one.spec.fingerprint for one in sweep.replicates if one.spec}
        return [job for job in replicate_jobs(best, sweep.options.replicates) if job.spec.fingerprint not in done]
