"""Keeps an executor busy, tries lost jobs again, and hands results back one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from pipelines.executors.base import Executor
from pipelines.sweep.history import attempts_of, close_lost_attempt
from pipelines.sweep.progress import SweepDisplay
from pipelines.trial.context import Context
from pipelines.trial.job import Job, Team, TrialKey, TrialResult
from research.errors import InputError
from research.tracking import schema
from research.training.trial_state import EpochRecord

OnEpoch = Callable[[Job, EpochRecord], bool]


class Dispatch:
    """Between the search, which makes jobs, and an executor, which runs them."""

    def __init__(
        self,
        executor: Executor,
        context: Context,
        display: SweepDisplay,
        made: Counter[TrialKey],
        attempts: int,
        on_epoch: OnEpoch,
    ):
        self._executor, self._context, self._display = executor, context, display
        self._made, self._attempts = made, attempts
        self._on_epoch = on_epoch
        self._dead_starts = 0

    def on_epoch(self, job: Job, record: EpochRecord) -> bool:
        """An epoch of a running job; False prunes it."""
        self._display.on_epoch(job, record)
        return self._on_epoch(job, record)

    def run(self, next_team: Callable[[], Team | None], on_end: Callable[[Job, TrialResult], None]) -> None:
        """Run teams until `next_team` has no more. It is asked whenever a slot is free, so it knows all results so far."""
        open_teams = 0
        more = True
        while more or open_teams:
            while more and open_teams < self._executor.slots:
                team = next_team()
                more = team is not None
                if team is not None:
                    self._submit(team)
                    open_teams += 1
            if open_teams:
                open_teams -= self._one_end(on_end)

    def _submit(self, team: Team) -> None:
        for job in team:
            self._made[job.key] += 1
            self._display.started(job)
        attempts = [{**job.tags, schema.ATTEMPT: str(self._made[job.key])} for job in team]
        self._executor.submit(tuple(replace(job, tags=tags) for job, tags in zip(team, attempts, strict=True)))

    def _one_end(self, on_end: Callable[[Job, TrialResult], None]) -> int:
        """Wait for a team to end; 1 if its slot is free, 0 if it was lost and what is left of it is tried again."""
        ended = self._executor.wait(self)
        if not ended.lost:
            for job, finished in zip(ended.team, ended.finished, strict=True):
                on_end(job, finished)
            return 1
        left = []
        for job in ended.team:
            result = self._lost(job, ended.lost)
            if result is None:
                left.append(job)
                self._display.say(f"[yellow]lost[/]  {job.name}: {ended.lost}; trying again from its last epoch")
            else:
                on_end(job, result)
        if left:
            self._submit(tuple(left))
        return 0 if left else 1

    def _lost(self, job: Job, why: str) -> TrialResult | None:
        """Close what a lost worker left. Workers that die before their trial has a run say nothing against the trial."""
        made = attempts_of(self._context, job)
        mine = [run for run in made if run.tags.get(schema.ATTEMPT) == job.tags[schema.ATTEMPT]]
        self._dead_starts = 0 if mine else self._dead_starts + 1
        if self._dead_starts >= self._attempts:
            raise InputError(
                f"WORKERS: {why} before it began a trial, the {self._dead_starts}. such death in a row; "
                "see what it printed above, or run trials in this process: WORKERS=1 without RAY."
            )
        return close_lost_attempt(self._context, made, mine, why, self._attempts)
