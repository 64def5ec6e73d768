"""What a sweep already knows. Its state is rebuilt from its MLflow runs at every start: there is no second record."""

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
"""How the reasons begin of attempts that took their process down, or that it took with it."""
WORKER_GRACE_SECONDS = 10.0
"""How long a dead driver's worker may take to notice."""


@dataclass(frozen=True, kw_only=True)
class SweepHistory:
    """A sweep's runs from earlier starts."""

    settled: dict[TrialKey, TrialResult] = field(default_factory=dict)
    """Trials and replicates that have their outcome; an interrupted one will be tried again and is not here."""
    suggested: dict[int, Suggested] = field(default_factory=dict)
    """What was proposed for each number, settled or not."""
    attempts: Counter[TrialKey] = field(default_factory=Counter)
    """Runs of each trial so far."""
    baselines: dict[str, TrialResult] = field(default_factory=dict)
    """Complete baselines by name."""

    @property
    def trials(self) -> dict[int, TrialResult]:
        """Settled trials of the search by number."""
        return {key.number: one for key, one in sorted(self.settled.items()) if one.kind == "trial"}


def read_history(context: SweepContext, attempts: int) -> SweepHistory:
    """Read the sweep's children, after closing what a dead driver left open.

    A trial whose last `attempts` attempts all died in the same epoch becomes `crashed`.
    """
    runs = children(context.store, context.experiment_id, context.parent_id)
    for run in runs:
        if run.status == "RUNNING":
            _close_orphan(context.store, run)
    # A kill between the creation of a run and its parameters leaves one that says nothing.
    tried = [run for run in runs if run.kind in ("trial", "replicate") and "number" in run.params]
    by_key: dict[TrialKey, list[RunRecord]] = {}
    for run in tried:
        by_key.setdefault(_key(run), []).append(run)
    settled = {}
    for key, attempts_made in by_key.items():
        _give_up(context, attempts_made, attempts)
        if ended := [run for run in attempts_made if run.outcome != "interrupted"]:
            settled[key] = _finished_trial(ended[0], context.task.spec)
    return SweepHistory(
        settled=settled,
        suggested={_key(run).number: json.loads(run.tags[schema.SUGGESTED]) for run in tried if run.kind == "trial"},
        attempts=Counter({key: len(made) for key, made in by_key.items()}),
        baselines={
            str(run.params["baseline"]): finished_of(run, BASELINES[str(run.params["baseline"])].title, None)
            for run in runs
            if run.kind == "baseline" and run.outcome == "complete"
        },
    )


def attempts_of(context: SweepContext, job: Job) -> list[RunRecord]:
    """The runs of a job so far, oldest first."""
    made = [run for run in children(context.store, context.experiment_id, context.parent_id) if "number" in run.params]
    return [run for run in made if run.kind == job.kind and _key(run) == job.key]


def close_lost_attempt(
    context: SweepContext, made: list[RunRecord], mine: list[RunRecord], reason: str, attempts: int
) -> TrialResult | None:
    """Close what a dead worker left (`mine`, of all attempts `made`).

    Gives the trial's result if there is one all the same, or if it has died once too often.
    """
    for run in mine:
        if run.status == "RUNNING":
            close_run(context.store, run, reason)
        elif run.outcome == "interrupted":
            # Its worker was asked to stop, and not by us: for the trial that is as good as being killed.
            RunLog(context.store, run.run_id).tag(schema.REASON, reason)
            run.tags[schema.REASON] = reason
    _give_up(context, made, attempts)
    ended = [run for run in made if run.outcome != "interrupted"]
    return _finished_trial(ended[0], context.task.spec) if ended else None


def close_open_children(context: SweepContext) -> None:
    """Close children that are still open when the sweep ends, such as one created twice by a server that restarted."""
    for run in children(context.store, context.experiment_id, context.parent_id):
        if run.status == "RUNNING":
            close_run(context.store, run, "left open when its sweep ended")


def _key(run: RunRecord) -> TrialKey:
    return TrialKey(int(run.params["number"]), int(run.params["seed"]))


def _close_orphan(store: Store, run: RunRecord) -> None:
    """Close a run whose driver is gone; its worker ends with it, though it may take a moment."""
    if schema.WORKER in run.tags and run.outcome is None:
        worker = ProcessId.read(run.tags[schema.WORKER])
        give_up_at = time.monotonic() + WORKER_GRACE_SECONDS
        while worker.is_alive and worker != ProcessId.mine():
            if time.monotonic() > give_up_at:
                raise InputError(f"run {run.name} is still being trained by {worker}; wait for it or stop it.")
            time.sleep(0.1)
    close_run(store, run, DRIVER_DIED)


def close_run(store: Store, run: RunRecord, reason: str) -> None:
    """End an open run; one that has its outcome tag had finished but for its status."""
    outcome = run.outcome or "interrupted"
    tags = {} if run.outcome else {schema.REASON: reason}
    RunLog(store, run.run_id).finish(outcome, tags=tags)
    run.tags.update({**tags, schema.OUTCOME: outcome})


def _give_up(context: SweepContext, made: list[RunRecord], attempts: int) -> None:
    """A trial that died too often without finishing one more epoch is `crashed`, so that a sweep cannot loop on it."""
    if any(run.outcome != "interrupted" for run in made):
        return
    if not made:
        return
    checkpoint = context.checkpoints / f"{made[-1].tags[schema.TRIAL_FINGERPRINT]}.safetensors"
    # The checkpoint may lie on another machine; what the last attempt began with was safe too.
    reached = max(epochs_done(checkpoint), int(made[-1].tags.get(schema.FROM_EPOCH, 0)))
    died = [run for run in made if run.tags.get(schema.REASON, "").startswith(DEATHS)]
    stuck = [run for run in died if int(run.tags.get(schema.FROM_EPOCH, 0)) == reached]
    if len(stuck) >= attempts:
        last = made[-1]
        reason = f"it took its process down {len(stuck)} times in epoch {reached + 1}; {last.tags.get(schema.REASON, '')}"
        RunLog(context.store, last.run_id).finish("crashed", tags={schema.REASON: reason})
        last.tags.update({schema.OUTCOME: "crashed", schema.REASON: reason})
        checkpoint.unlink(missing_ok=True)


def _finished_trial(run: RunRecord, task: TaskSpec) -> TrialResult:
    return finished_of(run, run.name, trial_spec_from_run(run, task))


def finished_of(run: RunRecord, name: str, spec: TrialSpec | None) -> TrialResult:
    """What a closed run says about itself, for tables and the sampler."""
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
