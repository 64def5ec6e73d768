"""What a sweep already knows. Its state is rebuilt from its MLflow runs at every start: there is no second record."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from filelock import FileLock, Timeout

from pipelines.search import Suggested
from pipelines.trial import Finished
from research.models.baselines import BASELINES
from research.spec import ArchitectureSpec, InputError, StudySpec, TrainingSpec, TrialSpec
from research.tracking import schema
from research.tracking.query import RunRecord, children
from research.tracking.runs import RunLog
from research.tracking.store import Store
from research.training.metrics import Scores

ATTEMPTS = 3
"""How often a trial may take its driver down before it counts as crashed."""
DRIVER_DIED = "its driver died"


@dataclass(frozen=True, kw_only=True)
class History:
    """A sweep's runs from earlier starts."""

    settled: dict[int, Finished]
    """Trials that have their outcome, by number; an interrupted one will be tried again and is not here."""
    suggested: dict[int, Suggested]
    """What was proposed for each number, settled or not."""
    baselines: dict[str, Finished]
    """Complete baselines by name."""


@contextmanager
def only_driver(store: Store, sweep_fingerprint: str) -> Iterator[None]:
    """Hold the sweep's lock; the system frees it however this process ends. A second driver is an `InputError`."""
    folder = store.root / "locks"
    folder.mkdir(exist_ok=True, parents=True)
    owner = folder / f"{sweep_fingerprint}.owner"
    lock = FileLock(folder / f"{sweep_fingerprint}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"this sweep is running already, as {owner.read_text()}; wait for it or stop it.") from None
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        lock.release()


def read_history(store: Store, experiment_id: str, parent_id: str, study: StudySpec) -> History:
    """Read the sweep's children, after closing what a dead driver left open."""
    for run in children(store, experiment_id, parent_id):
        if run.status == "RUNNING":
            _close_orphan(store, run)
    runs = children(store, experiment_id, parent_id)
    trials = [run for run in runs if run.kind == "trial"]
    _give_up(store, trials)
    settled = {}
    for run in trials:
        if run.tags[schema.OUTCOME] != "interrupted":
            settled[int(run.params["number"])] = _finished_trial(run, study)
    return History(
        settled=settled,
        suggested={int(run.params["number"]): json.loads(run.tags[schema.SUGGESTED]) for run in trials},
        baselines={
            str(run.params["baseline"]): _finished(run, BASELINES[str(run.params["baseline"])].title, None)
            for run in runs
            if run.kind == "baseline" and run.tags[schema.OUTCOME] == "complete"
        },
    )


def _close_orphan(store: Store, run: RunRecord) -> None:
    """Close a run whose driver is gone; one that has its outcome tag had finished but for its status."""
    outcome = run.outcome or "interrupted"
    tags = {} if run.outcome else {schema.REASON: DRIVER_DIED}
    RunLog(store, run.run_id).finish(outcome, tags=tags)
    run.tags.update({**tags, schema.OUTCOME: outcome})


def _give_up(store: Store, trials: list[RunRecord]) -> None:
    """A trial that took its driver down too often becomes `crashed`, so that a sweep cannot loop on it."""
    deaths = Counter(int(run.params["number"]) for run in trials if run.tags.get(schema.REASON) == DRIVER_DIED)
    for run in reversed(trials):
        number = int(run.params["number"])
        if deaths[number] >= ATTEMPTS and run.outcome == "interrupted":
            reason = f"it took its driver down {deaths[number]} times"
            RunLog(store, run.run_id).finish("crashed", tags={schema.REASON: reason})
            run.tags.update({schema.OUTCOME: "crashed", schema.REASON: reason})
            deaths[number] = 0


def _finished_trial(run: RunRecord, study: StudySpec) -> Finished:
    spec = TrialSpec(
        study=study,
        architecture=ArchitectureSpec(**{field.name: run.params[field.name] for field in fields(ArchitectureSpec)}),  # type: ignore[arg-type]
        training=TrainingSpec(**{field.name: run.params[field.name] for field in fields(TrainingSpec)}),  # type: ignore[arg-type]
    )
    if spec.fingerprint != run.tags[schema.TRIAL_FINGERPRINT]:
        raise InputError(f"run {run.run_id} ({run.name}) no longer has the parameters of its fingerprint; delete it.")
    return _finished(run, run.name, spec)


def _finished(run: RunRecord, name: str, spec: TrialSpec | None) -> Finished:
    outcome = run.outcome
    assert outcome is not None
    complete = outcome == "complete"
    found = {field.name: run.metrics[f"val_{field.name}"] for field in fields(Scores)} if complete else {}
    return Finished(
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
    )
