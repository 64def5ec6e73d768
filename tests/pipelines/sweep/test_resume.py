"""A sweep that was stopped, killed or given more trials ends as if it had run through once."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.options import SweepOptions
from pipelines.sweep.driver import run_sweep
from pipelines.sweep.driver_lock import only_driver
from pipelines.sweep.history import DRIVER_DIED, read_history
from pipelines.sweep.state import Sweep
from research.errors import InputError
from research.tracking import query, schema
from research.tracking.run_writer import RunLog
from research.tracking.store import open_store
from tests.conftest import start_sweep

ATTEMPTS = 3
EXPERIMENT = "sp500-threshold-1pct"


def options(root: Path, **changes: object) -> SweepOptions:
    return SweepOptions(
        **{"budget": "2K", "trials": 4, "epochs": 2, "device": "cpu", "workers": 1, "threads": 1, "store": root, **changes}
    )  # type: ignore[arg-type]


def run(root: Path, **changes: object) -> Sweep:
    return run_sweep(options(root, **changes), Console(quiet=True))


def table(sweep: Sweep) -> dict[str, tuple[str, float]]:
    return {one.name: (one.outcome, one.val_loss) for one in sweep.finished}


@pytest.fixture(scope="module")
def uninterrupted(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    root = tmp_path_factory.mktemp("uninterrupted") / "mlruns"
    shutil.copytree(migrated_store, root)
    return run(root)


def test_more_trials_continue_the_same_sweep(uninterrupted: Sweep, store_root: Path) -> None:
    first = run(store_root, trials=2)
    more = run(store_root, trials=4)
    assert more.log.run_id == first.log.run_id
    assert table(more) == table(uninterrupted)
    children = query.children(more.context.store, more.context.experiment_id, more.log.run_id)
    assert len(children) == 4 + 4
    parent = more.context.store.client.get_run(more.log.run_id)
    assert (parent.data.tags["outcome"], parent.info.status) == ("complete", "FINISHED")
    assert parent.data.metrics["sweep/trials_complete"] == 4


def test_a_finished_sweep_trains_nothing_again(uninterrupted: Sweep) -> None:
    root = uninterrupted.options.store
    before = len(query.trials(open_store(root)))
    assert table(run(root)) == table(uninterrupted)
    store = open_store(root)
    assert len(query.trials(store)) == before
    assert len(store.client.search_model_versions(f"name = '{EXPERIMENT}-2K-h1'")) == 1


def test_a_resumed_sweep_says_so_and_names_changed_code(uninterrupted: Sweep) -> None:
    uninterrupted.log.tag(schema.GIT_COMMIT, "0123456789abcdef")
    screen = Console(record=True, quiet=False, file=io.StringIO())
    run_sweep(options(uninterrupted.options.store), screen)
    said = screen.export_text()
    assert "4 trials of this sweep are finished; TRIALS=4 in all" in said
    assert "the code has changed since this sweep began, 01234567 to" in said


def test_a_killed_sweep_ends_as_if_it_had_not_been(uninterrupted: Sweep, store_root: Path) -> None:
    flags = ["--budget", "2K", "--trials", "4", "--epochs", "2", "--device", "cpu", "--workers", "1", "--threads", "1"]
    command = [sys.executable, "-m", "tapescale", "sweep", *flags, "--store", str(store_root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _wait_for_trials(store_root, 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    resumed = run(store_root)
    assert table(resumed) == table(uninterrupted)
    runs = query.children(resumed.context.store, resumed.context.experiment_id, resumed.log.run_id)
    assert not [one for one in runs if one.status == "RUNNING"]
    numbers = [one.params["number"] for one in runs if one.kind == "trial" and one.outcome == "complete"]
    assert sorted(numbers) == [0, 1, 2, 3]
    died = [one for one in runs if one.outcome == "interrupted"]
    assert {one.tags[schema.REASON] for one in died} <= {DRIVER_DIED}


def _wait_for_trials(root: Path, count: int) -> None:
    store = open_store(root)
    for _ in range(600):
        found = store.client.get_experiment_by_name(EXPERIMENT)
        if found and len(store.client.search_runs([found.experiment_id], "tags.run_kind = 'trial'")) >= count:
            return
        time.sleep(0.1)
    raise AssertionError("the sweep did not start its trials within a minute")


def test_a_second_driver_of_the_same_sweep_is_refused_by_name(store_root: Path) -> None:
    sweep = start_sweep(options(store_root))
    held = only_driver(sweep.context.store, sweep.context.tags[schema.SWEEP_FINGERPRINT])
    with held, pytest.raises(InputError, match=f"running already, as process {os.getpid()}"):
        run(store_root)
    assert run(store_root, trials=1, epochs=1).best is not None


def test_another_question_is_another_sweep(store_root: Path) -> None:
    one = run(store_root, trials=1, epochs=1)
    other = run(store_root, trials=1, epochs=1, threshold=0.005)
    assert one.log.run_id != other.log.run_id
    assert not other.history.suggested


def test_a_trial_that_keeps_killing_its_driver_becomes_crashed(store_root: Path) -> None:
    sweep = start_sweep(options(store_root))
    context = sweep.context
    for _ in range(ATTEMPTS):
        RunLog.start(
            context.store,
            experiment_id=context.experiment_id,
            kind="trial",
            name="0000 d4 L8 h1 ff2",
            params=_params_of_first_trial(),
            tags={schema.SUGGESTED: json.dumps({}), schema.TRIAL_FINGERPRINT: _fingerprint_of_first_trial(sweep)},
            parent_id=sweep.log.run_id,
        )
    history = read_history(context, ATTEMPTS)
    assert history.trials[0].outcome == "crashed"
    assert "3 times in epoch 1" in history.trials[0].reason
    runs = query.children(context.store, context.experiment_id, sweep.log.run_id)
    assert sorted((one.outcome, one.status) for one in runs) == [("crashed", "FAILED"), *[("interrupted", "KILLED")] * 2]


def test_a_run_whose_parameters_were_changed_is_refused(store_root: Path) -> None:
    sweep = start_sweep(options(store_root))
    context = sweep.context
    log = RunLog.start(
        context.store,
        experiment_id=context.experiment_id,
        kind="trial",
        name="0000",
        params={**_params_of_first_trial(), "weight_decay": 0.5},
        tags={schema.SUGGESTED: "{}", schema.TRIAL_FINGERPRINT: _fingerprint_of_first_trial(sweep)},
        parent_id=sweep.log.run_id,
    )
    log.finish("crashed")
    with pytest.raises(InputError, match=log.run_id):
        read_history(context, ATTEMPTS)


def _params_of_first_trial() -> dict[str, int | float | str]:
    shape = {"d_model": 4, "n_layers": 8, "n_heads": 1, "d_ff": 8, "context_length": 60, "patch_length": 10}
    rest = {
        "patch_stride": 5,
        "n_features": 25,
        "window_norm": False,
        "n_symbols": 0,
        "learning_rate": 0.001,
        "weight_decay": 0.01,
    }
    training = {"dropout": 0.1, "warmup_steps": 3, "batch_size": 64, "epochs": 2, "patience": 2, "seed": 0}
    return {**shape, **rest, **training, "gradient_clip": 1.0, "base_width": 0, "optimizer": "adamw", "number": 0}


def _fingerprint_of_first_trial(sweep: Sweep) -> str:
    from dataclasses import fields

    from research.spec import ArchitectureSpec, TrainingSpec, TrialSpec

    params = _params_of_first_trial()
    architecture = ArchitectureSpec(**{one.name: params[one.name] for one in fields(ArchitectureSpec) if one.name in params})  # type: ignore[arg-type]
    training = TrainingSpec(**{one.name: params[one.name] for one in fields(TrainingSpec)})  # type: ignore[arg-type]
    return TrialSpec(task=sweep.context.task.spec, architecture=architecture, training=training).fingerprint
