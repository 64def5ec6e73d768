"""Trials as tasks of a real Ray on this machine: outcomes, lost workers, Ctrl-C, pruning, mistakes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest
from rich.console import Console

from pipelines.executors import ray_tasks
from pipelines.executors.ray_tasks import RayTasks
from pipelines.options import SweepOptions
from pipelines.sweep.driver import run_sweep
from pipelines.sweep.state import Sweep
from pipelines.trial.job import Job, StackResult
from research.errors import InputError
from research.models.budget import Budget
from research.spec import ArchitectureSpec, TrainingSpec, TrialSpec
from research.tracking import schema
from research.tracking.store import open_store
from research.training.trial_state import EpochRecord
from scale.conftest import free_port, read, start_driver, training, wait_for
from tests.conftest import start_sweep

OPTIONS = SweepOptions(budget="2K", device="cpu", threads=1, ray="auto", trials=2, epochs=5, patience=5)


# Not imported here: Ray reads how it is to authenticate while it is imported.
IS_MISSING = find_spec("ray") is None


def with_ray() -> pytest.MarkDecorator:
    if IS_MISSING:
        return pytest.mark.skip(reason="Ray is not installed; `make setup-ray` does it, `make test-slow` too")
    return pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def token() -> Iterator[None]:
    """Ray asks for a token; one of the tests' own leaves the one in the home folder alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", uuid4().hex)
        yield


@with_ray()
def test_ctrl_c_interrupts_the_tasks_and_ray_says_nothing(store_root: Path) -> None:
    driver = start_driver(store_root, "--ray", "auto", "--trials", "4", "--epochs", "200", "--patience", "200")
    store = open_store(store_root)
    wait_for(lambda: len(training(store)) == 2 and len(list(store_root.glob("checkpoints/*.safetensors"))) == 2)
    # As a terminal does it: the whole group hears of it.
    os.killpg(driver.pid, signal.SIGINT)
    said, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert errors == "interrupted; finished work is in the store, and the same command continues from there.\n"
    assert "ray" not in said.replace("Ray tasks, 1 thread each", "").lower()
    found = read(store)
    found.require_true()
    assert found.parent.outcome == "interrupted"
    assert [run.outcome for run in found.trials] == ["interrupted"] * 2
    assert {run.tags[schema.REASON] for run in found.trials} == {"stopped by the user"}


@with_ray()
def test_a_sweep_on_a_cluster_survives_the_loss_of_a_worker(cluster: str, store_root: Path) -> None:
    store = open_store(store_root)
    killed: list[str] = []

    def kill_a_worker() -> None:
        wait_for(lambda: list(store_root.glob("checkpoints/*.safetensors")))
        checkpoint = next(store_root.glob("checkpoints/*.safetensors"))
        (victim,) = [run for run in training(store) if run.tags[schema.TRIAL_FINGERPRINT] == checkpoint.stem]
        os.kill(json.loads(victim.tags[schema.WORKER])["pid"], signal.SIGKILL)
        killed.append(victim.run_id)

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    run_sweep(replace(OPTIONS, ray=cluster, store=store_root), Console(quiet=True))
    killer.join()

    found = read(store)
    found.require_true()
    assert found.parent.outcome == "complete"
    assert found.numbers("complete") == [0, 1]
    (lost,) = [run for run in found.trials if run.outcome != "complete"]
    assert killed == [lost.run_id]
    assert lost.tags[schema.REASON] == "its Ray worker was lost (WorkerCrashedError)"
    (again,) = [run for run in found.trials if run.params["number"] == lost.params["number"] and run is not lost]
    assert again.tags[schema.ATTEMPT] == "2"
    assert int(again.tags[schema.FROM_EPOCH]) >= 1
    assert {json.loads(run.tags[schema.WORKER])["pid"] for run in found.trials}.isdisjoint({os.getpid()})


@with_ray()
@pytest.mark.parametrize(
    "address", [f"127.0.0.1:{free_port()}", "ray://127.0.0.1:1", "nonsense"], ids=["closed", "ray", "nonsense"]
)
def test_an_address_without_a_cluster_is_refused_before_the_sweep_has_a_run(store_root: Path, address: str) -> None:
    with pytest.raises(InputError, match=rf"^RAY={re.escape(address)}: no cluster answers there \(.*\); give host:port"):
        run_sweep(replace(OPTIONS, ray=address, store=store_root), Console(quiet=True))
    assert open_store(store_root).client.get_experiment_by_name("sp500-threshold-1pct") is None


def test_a_missing_ray_is_one_sentence_before_the_sweep_has_a_run(store_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"^RAY: Ray is not installed here; install it with `make setup-ray`"):
        run_sweep(replace(OPTIONS, store=store_root), Console(quiet=True))
    assert open_store(store_root).client.get_experiment_by_name("sp500-threshold-1pct") is None


@dataclass
class Watching:
    """Remembers epochs and prunes what it is told to."""

    pruned: str = ""
    seen: dict[str, list[int]] = field(default_factory=dict)

    def on_epoch(self, job: Job, record: EpochRecord) -> bool:
        self.seen.setdefault(job.name, []).append(record.epoch)
        return job.name != self.pruned


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster of this machine, started as docs/scale-out.md says."""
    # A socket's path may have a hundred characters only.
    folder, address = tempfile.mkdtemp(prefix="ray"), f"127.0.0.1:{free_port()}"
    head = ["start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={folder}"]
    command = [str(Path(sys.executable).with_name("ray")), *head, f"--port={address.split(':')[1]}"]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: answers(address))
    yield address
    started.terminate()
    started.wait(60)
    shutil.rmtree(folder, ignore_errors=True)


def answers(address: str) -> bool:
    try:
        return bool(ray_tasks._answering(address))
    except InputError:
        return False


@pytest.fixture(scope="module")
def sweep(cluster: str, migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep that is connected to the cluster."""
    root = tmp_path_factory.mktemp("tasks") / "mlruns"
    shutil.copytree(migrated_store, root)
    return start_sweep(replace(OPTIONS, ray=cluster, store=root))


@pytest.fixture(scope="module")
def tasks(sweep: Sweep) -> Iterator[RayTasks]:
    with closing(RayTasks(sweep=sweep.context, runtime=sweep.runtime)) as tasks:
        yield tasks


def job(sweep: Sweep, number: int, epochs: int) -> Job:
    template = ArchitectureSpec(d_model=4, n_layers=2, n_heads=1, d_ff=16, context_length=60, n_features=25)
    training = TrainingSpec(
        epochs=epochs, patience=epochs, learning_rate=1e-3, weight_decay=0.0, dropout=0.0, warmup_steps=1, batch_size=64, seed=0
    )
    return Job(number=number, spec=TrialSpec(task=sweep.context.task.spec, architecture=template, training=training))


def run(tasks: RayTasks, watching: Watching, *jobs: Job) -> dict[int, StackResult]:
    for one in jobs:
        tasks.submit((one,))
    return {ended.stack[0].number: ended for ended in (tasks.wait(watching.on_epoch) for _ in jobs)}


@with_ray()
def test_epochs_reach_the_driver_and_one_of_two_tasks_is_pruned(sweep: Sweep, tasks: RayTasks) -> None:
    assert tasks.slots == 2
    kept, pruned = job(sweep, 0, epochs=3), job(sweep, 1, epochs=60)
    watching = Watching(pruned=pruned.name)
    ended = run(tasks, watching, kept, pruned)
    assert [ended[number].results[0].outcome for number in (0, 1)] == ["complete", "pruned"]
    assert watching.seen[kept.name] == [1, 2, 3]
    assert 1 <= len(watching.seen[pruned.name]) < 60
    info = sweep.context.store.client.get_run(ended[1].results[0].run_id).info
    assert info.status == "KILLED"


@with_ray()
@pytest.mark.usefixtures("tasks")
def test_a_mistake_in_a_task_is_one_sentence(sweep: Sweep) -> None:
    wrong = RayTasks(sweep=replace(sweep.context, budget=Budget.parse("20M")), runtime=sweep.runtime)
    with pytest.raises(InputError, match=r"^BUDGET=20M: .* outside ±25%\.$"):
        run(wrong, Watching(), job(sweep, 2, epochs=1))


@with_ray()
@pytest.mark.usefixtures("tasks")
def test_more_threads_than_any_node_has_are_refused(sweep: Sweep) -> None:
    runtime = replace(sweep.runtime, threads=4096)
    with pytest.raises(InputError, match="no node has the 4096 CPUs"):
        RayTasks(sweep=sweep.context, runtime=runtime)


@with_ray()
@pytest.mark.usefixtures("tasks")
def test_a_polite_kill_still_reaches_the_handler_that_closes_the_runs() -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
