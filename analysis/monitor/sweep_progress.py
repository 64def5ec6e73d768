"""Progress of each sweep, read from the store while sweeps write to it. Numbers only."""

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
    """A trial or replicate in training."""

    name: str
    kind: str
    epochs_done: int
    epochs: int
    """Limit on the epochs; patience may end the training earlier."""
    seconds: float
    """Seconds since its start."""
    seconds_left: float | None
    """Seconds to the last epoch at its own speed; None before its first epoch."""
    pace: Pace
    lost: str
    """Process of the training if it has ended; empty otherwise."""


@dataclass(frozen=True, kw_only=True)
class BestTrial:
    """The best complete trial so far."""

    name: str
    """Number and architecture."""
    n_params: int
    val_loss: float


@dataclass(frozen=True, kw_only=True)
class SweepState:
    """Progress of one sweep."""

    name: str
    experiment: str
    outcome: str
    """Outcome of the sweep; empty while it is open."""
    ended_seconds_ago: float | None
    owner: DriverClaim
    planned: int
    done: int
    """Number of trials with an outcome; an interrupted trial has none, since it is retried."""
    running: int
    endings: dict[str, int]
    """Outcome other than `complete` -> number of attempts."""
    replicates: int
    """Number of complete replicates, which are not among the trials."""
    best: BestTrial | None
    seconds_per_trial: float | None
    """Median duration of the trials that this sweep trained without interruption."""
    trainings: list[Training]

    @property
    def left(self) -> int:
        """Number of trials that have not started."""
        return max(0, self.planned - self.done - self.running)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end of the sweep; None before the first trial ends, or if no driver runs.

        Open trials take the median duration, running ones their own speed, shared by the workers that are training.
        """
        usual = self.seconds_per_trial
        if usual is None or self.owner.is_gone:
            return None
        running = [max(0.0, usual - t.seconds) if t.seconds_left is None else t.seconds_left for t in self.trainings]
        return max([(self.left * usual + sum(running)) / max(1, len(running)), *running])


def sweeps(store: Store, experiment: str | None, finished: int) -> tuple[list[SweepState], list[SweepState]]:
    """Return the open sweeps and the last `finished` ended ones, oldest first; adopted results are left out."""
    names = query.experiments(store, experiment)
    parents = [run for run in query.runs_of_kind(store, list(names), ("sweep",)) if schema.OWNER in run.tags]
    running = [run for run in parents if run.status == "RUNNING"]
    ended = sorted((run for run in parents if run.status != "RUNNING"), key=lambda run: run.ended or 0)[-finished:]
    return [_state(store, run, names) for run in running], [_state(store, run, names) for run in ended]


def _state(store: Store, parent: RunRecord, names: dict[str, str]) -> SweepState:
    """Return the progress of a sweep from its parent run and children."""
    now = time.time()
    runs = query.children(store, parent.experiment_id, parent.run_id)
    trials = [run for run in runs if run.kind == "trial"]
    trained = [run for run in runs if run.kind in ("trial", "replicate")]
    open_runs = [run for run in trained if parent.status == "RUNNING" and run.status == "RUNNING"]
    settled = [run for run in trials if run.outcome not in (None, "interrupted")]
    complete = [run for run in trials if run.outcome == "complete"]
    steps = query.metric_history(store, [run.run_id for run in open_runs], schema.PROGRESS_STEP)
    epochs = query.metric_history(store, [run.run_id for run in open_runs], f"{schema.EPOCH_PREFIX}val_loss")
    return SweepState(
        name=parent.name,
        experiment=names[parent.experiment_id],
        outcome=parent.outcome or "",
        ended_seconds_ago=now - parent.ended / 1000 if parent.ended else None,
        owner=DriverClaim.read(parent.tags[schema.OWNER]),
        planned=int(parent.tags.get(schema.TRIALS_PLANNED, 0)),
        # Two overlapping drivers may have left two runs with the same number.
        done=len({run.params["number"] for run in settled}),
        running=sum(run.kind == "trial" for run in open_runs),
        endings=dict(Counter(run.outcome for run in trials if run.outcome not in (None, "complete"))),
        replicates=sum(run.kind == "replicate" and run.outcome == "complete" for run in runs),
        best=_best_trial(complete),
        seconds_per_trial=_seconds_per_trial(settled),
        trainings=[_training(run, steps[run.run_id], [epoch for _, epoch in epochs[run.run_id]], now) for run in open_runs],
    )


def _best_trial(complete: Sequence[RunRecord]) -> BestTrial | None:
    best = min(complete, key=lambda run: run.metrics["val_loss"], default=None)
    if best is None:
        return None
    return BestTrial(name=best.name, n_params=int(best.metrics["n_params"]), val_loss=best.metrics["val_loss"])


def _seconds_per_trial(settled: Sequence[RunRecord]) -> float | None:
    """Return the median duration of trials; linked ones and those resumed from a checkpoint do not count."""
    whole = [run for run in settled if schema.LINKED not in run.tags and run.tags.get(schema.FROM_EPOCH, "0") == "0"]
    seconds = [
        (run.ended - run.started) / 1000 for run in whole if run.ended and run.outcome in ("complete", "pruned", "diverged")
    ]
    return median(seconds) if seconds else None


def _training(run: RunRecord, steps: list[tuple[int, int]], epochs: list[int], now: float) -> Training:
    """Return the state of an open run from its (time, step) reports and its finished epochs."""
    first_epoch, total = int(run.tags.get(schema.FROM_EPOCH, 0)), int(run.params.get("epochs", 0))
    done = max(epochs, default=first_epoch)
    seconds = max(0.0, now - run.started / 1000)
    worker = ProcessId.read(run.tags[schema.WORKER]) if schema.WORKER in run.tags else None
    return Training(
        name=run.name,
        kind=run.kind,
        epochs_done=done,
        epochs=total,
        seconds=seconds,
        seconds_left=(total - done) * seconds / (done - first_epoch) if done > first_epoch else None,
        pace=pace_of(steps, run.started, now),
        lost=str(worker) if worker is not None and worker.is_alive is False else "",
    )
