"""Keeps an executor busy, tries lost jobs again, and hands results back one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from pipelines.executors.base import Executor
from pipelines.job import Ended, Finished, Job, Key
from pipelines.resume import attempts_of, close_lost
from pipelines.terminal import SweepDisplay
from pipelines.trial_record import Context
from research.spec import InputError
from research.tracking import schema
from research.training.trainer import EpochRecord

OnEpoch = Callable[[Job, EpochRecord], bool]


class Dispatch:
    """Between the search, which makes jobs, and an executor, which runs them."""

    def __init__(
        self, executor: Executor, context: Context, display: SweepDisplay, made: Counter[Key], attempts: int, on_epoch: OnEpoch
    ):
        self._executor, self._context, self._display = executor, context, display
        self._made, self._attempts = made, attempts
        self._on_epoch = on_epoch
        self._dead_starts = 0

    def on_epoch(self, job: Job, record: EpochRecord) -> bool:
        """An epoch of a running job; False prunes it."""
        self._display.on_epoch(job, record)
        return self._on_epoch(job, record)

    def run(self, next_job: Callable[[], Job | None], on_end: Callable[[Job, Finished], None]) -> None:
        """Run jobs until `next_job` has no more. It is asked whenever a slot is free, so it knows all results so far."""
        open_jobs = 0
        more = True
        while more or open_jobs:
            while more and open_jobs < self._executor.slots:
                job = next_job()
                more = job is not None
                if job is not None:
                    self._submit(job)
                    open_jobs += 1
            if open_jobs:
                open_jobs -= self._one_end(on_end)

    def _submit(self, job: Job) -> None:
        self._made[job.key] += 1
        self._display.started(job)
        self._executor.submit(replace(job, tags={**job.tags, schema.ATTEMPT: str(self._made[job.key])}))

    def _one_end(self, on_end: Callable[[Job, Finished], None]) -> int:
        """Wait for a job to end; 1 if it has its result, 0 if it was lost and is tried again."""
        ended = self._executor.wait(self)
        finished = ended.finished
        if finished is None:
            finished = self._lost(ended)
            if finished is None:
                self._display.say(f"[yellow]lost[/]  {ended.job.name}: {ended.lost}; trying again from its last epoch")
                self._submit(ended.job)
                return 0
        on_end(ended.job, finished)
        return 1

    def _lost(self, ended: Ended) -> Finished | None:
        """Close what a lost worker left. Workers that die before their trial has a run say nothing against the trial."""
        made = attempts_of(self._context, ended.job)
        mine = [run for run in made if run.tags.get(schema.ATTEMPT) == ended.job.tags[schema.ATTEMPT]]
        self._dead_starts = 0 if mine else self._dead_starts + 1
        if self._dead_starts >= self._attempts:
            raise InputError(
                f"WORKERS: {ended.lost} before it began a trial, the {self._dead_starts}. such death in a row; "
                "see what it printed above, or run trials in this process: WORKERS=1 without RAY."
            )
        return close_lost(self._context, made, mine, ended.lost, self._attempts)
