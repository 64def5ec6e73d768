"""Where each sweep stands, read from the store while others write to it. Numbers only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from analysis.monitor.throughput import Pace, pace_of
from research.tracking import query, schema
from research.tracking.process_identity import DriverClaim, ProcessId
from research.tracking.query import RunRecord
from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class Training:
    """A trial or replicate that is being trained."""

    name: str
    kind: str
    epochs_done: int
    epochs: int
    """At most; patience may end it earlier."""
    seconds: float
    """Since it started."""
    seconds_left: float | None
    """At its own speed if patience does not end it; None before its first epoch."""
    pace: Pace
    lost: str
    """The process that trained it, if that has ended; empty otherwise."""


@dataclass(frozen=True, kw_only=True)
class BestTrial:
    """The best complete trial so far."""

    name: str
    """Number and architecture."""
    n_params: int
    val_loss: float


@dataclass(frozen=True, kw_only=True)
class SweepState:
    """Where one sweep stands."""

    name: str
    experiment: str
    outcome: str
    """Empty while it is open."""
    ended_seconds_ago: float | None
    owner: DriverClaim
    planned: int
    done: int
    """Trials that have their outcome; one that was interrupted will be tried again and has none."""
    running: int
    endings: dict[str, int]
    """Outcomes other than `complete` -> attempts that ended so."""
    replicates: int
    """Replicates done; they are not among the trials."""
    best: BestTrial | None
    seconds_per_trial: float | None
    """Median of the trials that were trained here in one go."""
    trainings: list[Training]

    @property
    def left(self) -> int:
        """Trials that have not begun."""
        return max(0, self.planned - self.done - self.running)

    @property
    def seconds_left(self) -> float | None:
        """Trials not begun at the median time and begun ones at their own speed, shared by the workers that train.

        None while no trial has ended, or if nobody drives the sweep.
        """
        usual = self.seconds_per_trial
        if usual is None or self.owner.is_gone:
            return None
        begun = [max(0.0, usual - one.seconds) if one.seconds_left is None else one.seconds_left for one in self.trainings]
        return max([(self.left * usual + sum(begun)) / max(1, len(begun)), *begun])


def sweeps(store: Store, experiment: str | None, finished: int) -> tuple[list[SweepState], list[SweepState]]:
    """Open sweeps and the last few finished ones, oldest first; adopted results are no sweeps and left out."""
    names = query.experiments(store, experiment)
    parents = [run for run in query.runs_of_kind(store, list(names), ("sweep",)) if schema.OWNER in run.tags]
    begun = [run for run in parents if run.status == "RUNNING"]
    ended = sorted((run for run in parents if run.status != "RUNNING"), key=lambda run: run.ended or 0)[-finished:]
    return [_state(store, run, names) for run in begun], [_state(store, run, names) for run in ended]


def _state(store: Store, parent: RunRecord, names: dict[str, str]) -> SweepState:
    now = time.time()
    runs = query.children(store, parent.experiment_id, parent.run_id)
    trials = [run for run in runs if run.kind == "trial"]
    searched = [run for run in runs if run.kind in ("trial", "replicate")]
    open_runs = [run for run in searched if parent.status == "RUNNING" and run.status == "RUNNING"]
    settled = [run for run in trials if run.outcome not in (None, "interrupted")]
    return SweepState(
        name=parent.name,
        experiment=names[parent.experiment_id],
        outcome=parent.outcome or "",
        ended_seconds_ago=now - parent.ended / 1000 if parent.ended else None,
        owner=DriverClaim.read(parent.tags[schema.OWNER]),
        planned=int(parent.tags.get(schema.TRIALS_PLANNED, 0)),
        # Two drivers that overlapped may have left two runs of one number.
        done=len({run.params["number"] for run in settled}),
        running=sum(run.kind == "trial" for run in open_runs),
        endings=dict(Counter(run.outcome for run in trials if run.outcome not in (None, "complete"))),
        replicates=sum(run.kind == "replicate" and run.outcome == "complete" for run in runs),
        best=_best(trials),
        seconds_per_trial=_usual_seconds(settled),
        trainings=_trainings(store, open_runs, now),
    )


def _best(trials: Sequence[RunRecord]) -> BestTrial | None:
    complete = [run for run in trials if run.outcome == "complete"]
    if not complete:
        return None
    best = min(complete, key=lambda run: run.metrics["val_loss"])
    return BestTrial(name=best.name, n_params=int(best.metrics["n_params"]), val_loss=best.metrics["val_loss"])


def _usual_seconds(settled: Sequence[RunRecord]) -> float | None:
    """A linked trial cost nothing, and one that went on from a checkpoint is only a part of itself."""
    whole = [run for run in settled if schema.LINKED not in run.tags and run.tags.get(schema.FROM_EPOCH, "0") == "0"]
    seconds = [
        (run.ended - run.started) / 1000 for run in whole if run.ended and run.outcome in ("complete", "pruned", "diverged")
    ]
    return median(seconds) if seconds else None


def _trainings(store: Store, runs: Sequence[RunRecord], now: float) -> list[Training]:
    ids = [run.run_id for run in runs]
    steps = query.metric_history(store, ids, schema.PROGRESS_STEP)
    epochs = query.metric_history(store, ids, f"{schema.EPOCH_PREFIX}val_loss")
    return [_training(run, steps[run.run_id], [epoch for _, epoch in epochs[run.run_id]], now) for run in runs]


def _training(run: RunRecord, steps: list[tuple[int, int]], epochs: list[int], now: float) -> Training:
    begun_with, total = int(run.tags.get(schema.FROM_EPOCH, 0)), int(run.params.get("epochs", 0))
    done = max(epochs, default=begun_with)
    seconds = max(0.0, now - run.started / 1000)
    return Training(
        name=run.name,
        kind=run.kind,
        epochs_done=done,
        epochs=total,
        seconds=seconds,
        seconds_left=(total - done) * seconds / (done - begun_with) if done > begun_with else None,
        pace=pace_of(steps, run.started, now),
        lost=_lost(run),
    )


def _lost(run: RunRecord) -> str:
    worker = ProcessId.read(run.tags[schema.WORKER]) if schema.WORKER in run.tags else None
    return str(worker) if worker is not None and worker.is_alive is False else ""
