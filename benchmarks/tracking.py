"""Cost of a trial's MLflow record, compared with a plain MLflow script and Optuna's storages."""

from __future__ import annotations

import math
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

import optuna
import torch

from benchmarks.harness import (
    CURVES,
    EPOCHS,
    PARAMS,
    TAGS,
    Measurement,
    curve_value,
    objective,
    one_thread,
    sampler,
    suggest,
    timed,
    typical,
    write_artifacts,
)
from benchmarks.training import SHAPES, our_step
from pipelines.options import SweepOptions
from research.tracking.run_writer import Input, RunLog, Value
from research.tracking.store import Store, open_store

MOST_OF_FLUENT = 1 / 8
MOST_OF_CALLBACK = 1 / 5
MOST_GROWTH = 1.3
MOST_OF_TRAINING = 0.02
SHAPE_OF_2M = SHAPES[1]
WINDOWS = 3_012
"""Training windows of the default study."""
STEPS = 5
REPEATS = 10
SEARCH_TRIALS = 30
FEW, MANY, TURNS = 10, 300, 15
INPUTS = [Input(name=name, digest="0123456789abcdef", source="snapshots", context=name) for name in ("bars", "target")]


def tracking(folder: Path) -> list[Measurement]:
    """Compare `RunLog` with fluent calls, a search with Optuna's storages, and a full store with an empty one."""
    return [_against_fluent(folder), _against_training(folder), *_searches(folder), _growth(folder)]


def fresh_store(folder: Path, name: str) -> Store:
    """Return an empty store; the migrations, which take seconds, run once per folder."""
    template = folder / "template"
    open_store(template)
    return open_store(Path(shutil.copytree(template, folder / name)))


def write_trial(
    store: Store, experiment_id: str, number: int, params: Mapping[str, Value] = PARAMS, *, curves: bool = True
) -> None:
    """Write one trial as a sweep does; without curves only its start and end remain."""
    log = RunLog.start(
        store, experiment_id=experiment_id, kind="trial", name=f"{number:04d}", params=params, tags=TAGS, inputs=INPUTS
    )
    if curves:
        for epoch in range(EPOCHS):
            for name in CURVES:
                log.metric(name, curve_value(name, epoch), step=epoch)
        log.artifacts(write_artifacts)
    log.finish("complete", metrics={"val_loss": 0.5})


def _against_fluent(folder: Path) -> Measurement:
    store = fresh_store(folder, "runlog")
    experiment = store.experiment("e")
    ours = typical(lambda number: write_trial(store, experiment, number), REPEATS)
    fluent = _reference("fluent", folder, REPEATS // 3)
    return Measurement(
        name="a trial / fluent MLflow, a call per epoch", seconds=ours, reference=fluent, most_ratio=MOST_OF_FLUENT
    )


def _against_training(folder: Path) -> Measurement:
    """Measure the recording time of a 2M trial, compared with its training at the usual windows and epochs."""
    store = fresh_store(folder, "share")
    experiment = store.experiment("e")
    record = typical(lambda number: write_trial(store, experiment, number), REPEATS)
    step = our_step(SHAPE_OF_2M, torch.device("cpu"))
    with one_thread():
        seconds = typical(lambda _: step(), STEPS) * math.ceil(WINDOWS / SHAPE_OF_2M.batch_size) * SweepOptions().epochs
    name = f"the record of a 2M trial / its training, {SHAPE_OF_2M.architecture.label}, {WINDOWS:,} windows, all epochs"
    return Measurement(name=name, seconds=record, reference=seconds, most_ratio=MOST_OF_TRAINING)


def _searches(folder: Path) -> list[Measurement]:
    bare, full = _search(folder, "bare", curves=False), _search(folder, "full", curves=True)
    rows = {
        "optuna_callback": ("ask, log, tell / Optuna on SQLite with the MLflow callback", bare),
        "optuna_callback_curves": ("the same where both log 100 epochs and 3 files", full),
    }
    storage = _reference("mlflow_storage", folder, SEARCH_TRIALS)
    return [
        *(
            Measurement(
                name=name, seconds=ours, reference=_reference(script, folder, SEARCH_TRIALS), most_ratio=MOST_OF_CALLBACK
            )
            for script, (name, ours) in rows.items()
        ),
        Measurement(name="ask, log, tell / MLflow's own Optuna storage", seconds=bare, reference=storage),
    ]


def _search(folder: Path, name: str, *, curves: bool) -> float:
    """Return the median seconds of a trial as in a sweep: the study in memory, the trial in MLflow."""
    store = fresh_store(folder, name)
    experiment = store.experiment("e")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler())

    def trial(number: int) -> None:
        asked = study.ask()
        suggested = suggest(asked)
        write_trial(store, experiment, number, params={**suggested, **(PARAMS if curves else {})}, curves=curves)
        study.tell(asked, objective(suggested))

    return typical(trial, SEARCH_TRIALS)


def _growth(folder: Path) -> Measurement:
    small, large = fresh_store(folder, "small"), fresh_store(folder, "large")
    experiments = {store.root: store.experiment("e") for store in (small, large)}
    for store, trials in ((small, FEW), (large, MANY)):
        for number in range(trials):
            write_trial(store, experiments[store.root], number)
    seconds: dict[Path, list[float]] = {small.root: [], large.root: []}
    # Interleaved, so that other load affects both.
    for number in range(MANY, MANY + TURNS):
        for store in (small, large):
            seconds[store.root].append(timed(partial(write_trial, store, experiments[store.root], number)))
    late, early = median(seconds[large.root]), median(seconds[small.root])
    return Measurement(name="a trial after 300 others / after 10", seconds=late, reference=early, most_ratio=MOST_GROWTH)


def reference(name: str, store: Store, trials: int) -> float:
    """Return the seconds of one reference, in a separate process on the given store."""
    command = [sys.executable, "-m", "benchmarks.peer_tracking", name, str(store.root), str(trials)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def _reference(name: str, folder: Path, trials: int) -> float:
    """Return the median seconds of a reference's trial, on a store created by MLflow itself."""
    store = fresh_store(folder, name)
    with closing(sqlite3.connect(store.database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return reference(name, store, trials)
