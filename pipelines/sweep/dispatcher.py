"""Keeps an executor busy, retries lost jobs, and returns results one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from pipelines.executors.base import Executor
from pipelines.sweep.history import attempts_of, close_lost_attempt
from pipelines.sweep.progress import SweepDisplay
from pipelines.trial.context import SweepContext
from pipelines.trial.job import Job, JobStack, TrialKey, TrialResult
from pipelines.trial.run_listener import EpochCallback
from research.errors import InputError
from research.tracking import schema
from research.training.trial_state import EpochRecord


class Dispatch:
    """Passes jobs from the search to an executor and their results back."""

    def __init__(
        self,
        executor: Executor,
        context: SweepContext,
        display: SweepDisplay,
        attempt_counts: Counter[TrialKey],
        max_attempts: int,
        may_continue: EpochCallback,
    ):
        self._executor, self._context, self._display = executor, context, display
        self._attempt_counts, self._max_attempts = attempt_counts, max_attempts
        self._may_continue = may_continue
        self._dead_starts = 0

    def report(self, job: Job, record: EpochRecord) -> bool:
        """Show a finished epoch of a running job, and return False if the job is to be pruned."""
        self._display.show_epoch(job, record)
        return self._may_continue(job, record)

    def run(self, next_stack: Callable[[], JobStack | None], on_end: Callable[[Job, TrialResult], None]) -> None:
        """Run stacks until `next_stack` returns None. It is called when a slot is free, so it can use all results so far."""
        open_stacks = 0
        more = True
        while more or open_stacks:
            while more and open_stacks < self._executor.slots:
                stack = next_stack()
                more = stack is not None
                if stack is not None:
                    self._submit(stack)
                    open_stacks += 1
            if open_stacks:
                open_stacks -= self._wait_for_stack(on_end)

    def _submit(self, stack: JobStack) -> None:
        for job in stack:
            self._attempt_counts[job.key] += 1
            self._display.started(job)
        tags_of_jobs = [{**job.tags, schema.ATTEMPT: str(self._attempt_counts[job.key])} for job in stack]
        self._executor.submit(tuple(replace(job, tags=tags) for job, tags in zip(stack, tags_of_jobs, strict=True)))

    def _wait_for_stack(self, on_end: Callable[[Job, TrialResult], None]) -> int:
        """Wait for a stack to end. Return 1 if its slot is free, or 0 if it was lost and is tried again."""
        ended = self._executor.wait(self.report)
        if not ended.lost:
            for job, finished in zip(ended.stack, ended.results, strict=True):
                on_end(job, finished)
            return 1
        left = []
        for job in ended.stack:
            result = self._close_lost(job, ended.lost)
            if result is None:
                left.append(job)
                self._display.print_above(f"[yellow]lost[/]  {job.name}: {ended.lost}; trying again from its last epoch")
            else:
                on_end(job, result)
        if left:
            self._submit(tuple(left))
        return 0 if left else 1

    def _close_lost(self, job: Job, reason: str) -> TrialResult | None:
        """Close the runs of a lost worker. A worker that dies before its trial has a run does not count against the trial."""
        runs = attempts_of(self._context, job)
        lost_runs = [run for run in runs if run.tags.get(schema.ATTEMPT) == job.tags[schema.ATTEMPT]]
        self._dead_starts = 0 if lost_runs else self._dead_starts + 1
        if self._dead_starts >= self._max_attempts:
            raise InputError(
                f"WORKERS: {reason} before it began a trial, the {self._dead_starts}. such death in a row; "
                "see what it printed above, or run trials in this process: WORKERS=1 without RAY."
            )
        return close_lost_attempt(self._context, runs, lost_runs, reason, self._max_attempts)
