"""Earlier runs of a sweep. Its state is rebuilt from MLflow at every start, and there is no second record."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field, fields

from pipelines.sweep.search_space import Suggested
from pipelines.trial.context import SweepContext
from pipelines.trial.job import Job, TrialKey, TrialResult
from research.errors import InputError
from research.evaluation.metrics import Scores
from research.models.baselines import BASELINES
from research.spec import TaskSpec, TrialSpec
from research.tracking import schema
from research.tracking.process_identity import ProcessId
from research.tracking.query import RunRecord, children
from research.tracking.run_writer import RunLog
from research.tracking.spec_codec import trial_spec_from_run
from research.tracking.store import Store
from research.training.checkpoint import epochs_done

DRIVER_DIED = "its driver died"
DEATHS = (DRIVER_DIED, "worker process", "its Ray worker")
"""First words of the reason of an attempt that ended with its process."""
WORKER_GRACE_SECONDS = 10.0
"""Time in which the worker of a dead driver ends."""


@dataclass(frozen=True, kw_only=True)
class SweepHistory:
    """A sweep's runs from earlier starts."""

    settled: dict[TrialKey, TrialResult] = field(default_factory=dict)
    """Trials and replicates with an outcome. Interrupted ones are tried again and left out."""
    suggested: dict[int, Suggested] = field(default_factory=dict)
    """Settings proposed for each number, settled or not."""
    attempt_counts: Counter[TrialKey] = field(default_factory=Counter)
    """Number of runs of each trial so far."""
    baselines: dict[str, TrialResult] = field(default_factory=dict)
    """Complete baselines by name."""

    @property
    def trials(self) -> dict[int, TrialResult]:
        """Settled trials of the search by number."""
        return {key.number: result for key, result in sorted(self.settled.items()) if result.kind == "trial"}


def read_history(context: SweepContext, max_attempts: int) -> SweepHistory:
    """Read the sweep's children, after closing what a dead driver left open.

    A trial whose last `max_attempts` attempts all died in the same epoch becomes `crashed`.
    """
    runs = children(context.store, context.experiment_id, context.parent_id)
    for run in runs:
        if run.status == "RUNNING":
            _close_orphan(context.store, run)
    # A process killed between creating a run and writing its parameters leaves an empty run.
    tried = [run for run in runs if run.kind in ("trial", "replicate") and "number" in run.params]
    by_key: dict[TrialKey, list[RunRecord]] = {}
    for run in tried:
        by_key.setdefault(_key(run), []).append(run)
    settled = {}
    for key, attempts in by_key.items():
        _give_up(context, attempts, max_attempts)
        if ended := [run for run in attempts if run.outcome != "interrupted"]:
            settled[key] = _finished_trial(ended[0], context.task.spec)
    return SweepHistory(
        settled=settled,
        suggested={_key(run).number: json.loads(run.tags[schema.SUGGESTED]) for run in tried if run.kind == "trial"},
        attempt_counts=Counter({key: len(attempts) for key, attempts in by_key.items()}),
        baselines={
            str(run.params["baseline"]): finished_of(run, BASELINES[str(run.params["baseline"])].title, None)
            for run in runs
            if run.kind == "baseline" and run.outcome == "complete"
        },
    )


def attempts_of(context: SweepContext, job: Job) -> list[RunRecord]:
    """Return the runs of a job so far, oldest first."""
    runs = [run for run in children(context.store, context.experiment_id, context.parent_id) if "number" in run.params]
    return [run for run in runs if run.kind == job.kind and _key(run) == job.key]


def close_lost_attempt(
    context: SweepContext, attempts: list[RunRecord], lost: list[RunRecord], reason: str, max_attempts: int
) -> TrialResult | None:
    """Close the runs that a dead worker left: `lost`, of all the trial's `attempts`.

    Return the trial's result if it has one, or if it died too often, and None if it is to be tried again.
    """
    for run in lost:
        if run.status == "RUNNING":
            close_run(context.store, run, reason)
        elif run.outcome == "interrupted":
            # Another process stopped its worker, which counts as a death of the trial.
            RunLog(context.store, run.run_id).tag(schema.REASON, reason)
            run.tags[schema.REASON] = reason
    _give_up(context, attempts, max_attempts)
    ended = [run for run in attempts if run.outcome != "interrupted"]
    return _finished_trial(ended[0], context.task.spec) if ended else None


def close_open_children(context: SweepContext) -> None:
    """Close children that are still open when the sweep ends, such as a run created twice by a restarted server."""
    for run in children(context.store, context.experiment_id, context.parent_id):
        if run.status == "RUNNING":
            close_run(context.store, run, "left open when its sweep ended")


def _key(run: RunRecord) -> TrialKey:
    return TrialKey(int(run.params["number"]), int(run.params["seed"]))


def _close_orphan(store: Store, run: RunRecord) -> None:
    """Close a run of a dead driver, after waiting for the driver's worker to end."""
    if schema.WORKER in run.tags and run.outcome is None:
        worker = ProcessId.read(run.tags[schema.WORKER])
        give_up_at = time.monotonic() + WORKER_GRACE_SECONDS
        while worker.is_alive and worker != ProcessId.mine():
            if time.monotonic() > give_up_at:
                raise InputError(f"run {run.name} is still being trained by {worker}; wait for it or stop it.")
            time.sleep(0.1)
    close_run(store, run, DRIVER_DIED)


def close_run(store: Store, run: RunRecord, reason: str) -> None:
    """End an open run, with the outcome of its tag if it has one."""
    outcome = run.outcome or "interrupted"
    tags = {} if run.outcome else {schema.REASON: reason}
    RunLog(store, run.run_id).finish(outcome, tags=tags)
    run.tags.update({**tags, schema.OUTCOME: outcome})


def _give_up(context: SweepContext, attempts: list[RunRecord], max_attempts: int) -> None:
    """Mark a trial as `crashed` if it died too often in one epoch, so that a sweep cannot loop on it."""
    if not attempts or any(run.outcome != "interrupted" for run in attempts):
        return
    checkpoint = context.checkpoints / f"{attempts[-1].tags[schema.TRIAL_FINGERPRINT]}.safetensors"
    # The checkpoint may be on another machine. The last attempt's first epoch was saved too.
    reached = max(epochs_done(checkpoint), int(attempts[-1].tags.get(schema.FROM_EPOCH, 0)))
    died = [run for run in attempts if run.tags.get(schema.REASON, "").startswith(DEATHS)]
    stuck = [run for run in died if int(run.tags.get(schema.FROM_EPOCH, 0)) == reached]
    if len(stuck) >= max_attempts:
        last = attempts[-1]
        reason = f"it took its process down {len(stuck)} times in epoch {reached + 1}; {last.tags.get(schema.REASON, '')}"
        RunLog(context.store, last.run_id).finish("crashed", tags={schema.REASON: reason})
        last.tags.update({schema.OUTCOME: "crashed", schema.REASON: reason})
        checkpoint.unlink(missing_ok=True)


def _finished_trial(run: RunRecord, task: TaskSpec) -> TrialResult:
    return finished_of(run, run.name, trial_spec_from_run(run, task))


def finished_of(run: RunRecord, name: str, spec: TrialSpec | None) -> TrialResult:
    """Return the result of a closed run, for tables and the sampler."""
    outcome = run.outcome
    assert outcome is not None
    complete = outcome == "complete"
    found = {one.name: run.metrics[f"val_{one.name}"] for one in fields(Scores)} if complete else {}
    return TrialResult(
        run_id=run.run_id,
        name=name,
        kind=run.kind,
        outcome=outcome,
        reason=run.tags.get(schema.REASON, ""),
        n_parameters=int(run.metrics.get("n_params", 0)),
        scores=Scores(**{**found, "n": int(found["n"])}) if complete else None,  # type: ignore[arg-type]
        alarm=run.tags.get(schema.ALARM, "none"),
        spec=spec,
        seconds=run.metrics.get("training_seconds", 0.0),
        number=int(run.params.get("number", -1)),
        proposed_by=run.tags.get(schema.PROPOSED_BY, ""),
        linked_run_id=run.tags.get(schema.LINKED, ""),
    )
