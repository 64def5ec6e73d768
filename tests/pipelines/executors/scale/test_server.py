"""A sweep through a real `mlflow server`, which dies and comes back, and through drivers that do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow
import pytest
from rich.console import Console

from pipelines.options import SweepOptions
from pipelines.sweep.driver import run_sweep
from research.data.bars import OHLCV
from research.data.bundled import bundled
from research.tracking import query, schema
from research.tracking.store import Store
from scale.conftest import Server, read, start_driver, training, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Store:
    return Store(root=tmp_path / "reader", uri=server.uri)


def options(root: Path, **changed: object) -> SweepOptions:
    tiny = {"budget": "2K", "device": "cpu", "threads": 1, "workers": 1, "store": root}
    return SweepOptions(**{**tiny, **changed})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def swept(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run a sweep of three trials with two workers through the server; return what its driver printed."""
    root = tmp_path_factory.mktemp("swept")
    driver = start_driver(root, "--trials", "3", "--epochs", "2", "--workers", "2", uri=server.uri)
    output, errors = driver.communicate()
    assert (driver.returncode, errors) == (0, "")
    assert not (root / "mlflow.db").exists()
    assert not (root / "artifacts").exists()
    return output


def test_a_whole_sweep_goes_through_the_server(server: Server, swept: str, store: Store, tmp_path: Path) -> None:
    assert f"see   {server.uri}/#/experiments/" in swept

    record = read(store)
    record.require_true()
    assert record.numbers("complete") == [0, 1, 2]
    assert sum(run.kind == "baseline" and run.outcome == "complete" for run in record.children) == 4
    assert len({run.tags[schema.WORKER] for run in record.trials}) == 2
    best = min(record.trials, key=lambda run: run.metrics["val_loss"])
    assert record.parent.tags[schema.BEST_RUN] == best.run_id
    predictions = query.predictions(store, best.run_id)
    assert predictions["loss"].mean() == pytest.approx(best.metrics["val_loss"], abs=1e-6)
    require_model_serves(server)
    require_leaderboard(server, tmp_path / "reader", int(best.metrics["n_params"]))


def require_model_serves(server: Server) -> None:
    mlflow.set_tracking_uri(server.uri)
    try:
        model = mlflow.pyfunc.load_model("models:/sp500-threshold-1pct-2K-h1@challenger")
    finally:
        mlflow.set_tracking_uri(None)
    bars = bundled().bars["^GSPC"][OHLCV].tail(300).reset_index()
    said = model.predict(bars.assign(date=bars["date"].dt.strftime("%Y-%m-%d")))
    assert said["probability"].between(0, 1).all()


def require_leaderboard(server: Server, root: Path, n_params: int) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server.uri}
    reader = [sys.executable, "-m", "tapescale", "leaderboard", "--store", str(root)]
    done = subprocess.run(reader, env=environment, capture_output=True, text=True, check=True)
    assert f"{n_params:,}" in done.stdout
    assert "vs logistic" in done.stdout
    assert done.stderr == ""


@pytest.mark.usefixtures("swept")
def test_what_was_fetched_from_the_server_is_gone_with_its_reader(store: Store) -> None:
    run = read(store).trials[0]
    path = store.local_artifact(run.run_id, schema.PREDICTIONS_FILE)
    assert path.exists()
    assert Path(tempfile.gettempdir()) in path.parents
    del store.__dict__["_downloads"]
    assert not path.parent.exists()


def test_a_second_driver_is_refused_and_a_killed_one_is_continued(
    server: Server, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    same = {"seed": 1, "trials": 1, "epochs": 25, "patience": 25}
    flags = [text for name, value in same.items() for text in (f"--{name}", str(value))]
    driver = start_driver(tmp_path / "b", *flags, "--workers", "1", uri=server.uri)
    wait_for(lambda: list((tmp_path / "b" / "checkpoints").glob("*.safetensors")))

    # Its lock file lies in another folder, so that only the server knows of the first driver.
    with pytest.raises(ValueError, match=rf"running already, as process {driver.pid} on .* last heard of \d+ s ago"):
        run_sweep(options(tmp_path / "elsewhere", **same), Console(quiet=True))

    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    run_sweep(options(tmp_path / "b", **same), Console(quiet=True))
    found = read(store, seed=1)
    found.require_true()
    first, second = found.trials
    assert (first.outcome, first.tags[schema.REASON]) == ("interrupted", "its driver died")
    assert (second.outcome, second.tags[schema.ATTEMPT]) == ("complete", "2")
    begun = int(second.tags[schema.FROM_EPOCH])
    assert begun >= 1
    curve = query.histories(store, [second.run_id], "epoch/val_loss")[second.run_id]
    assert max(curve) == 25


def test_a_server_that_dies_in_the_middle_of_a_trial_costs_nothing(server: Server, store: Store, tmp_path: Path) -> None:
    flags = ["--seed", "2", "--trials", "2", "--epochs", "8", "--patience", "8", "--workers", "2"]
    driver = start_driver(tmp_path / "c", *flags, uri=server.uri)
    wait_for(lambda: training(store, seed=2))
    server.kill()
    assert driver.poll() is None
    server.start()
    _, errors = driver.communicate(timeout=150)
    assert driver.returncode == 0
    lines = errors.splitlines()
    assert any(line.startswith("the store does not answer (") for line in lines)
    assert {line.split(" (")[0] for line in lines} == {"the store does not answer", "the store answers again."}

    found = read(store, seed=2)
    found.require_true()
    assert found.numbers("complete") == [0, 1]
    assert len(found.trials) == 2
    for run in found.trials:
        curve = query.histories(store, [run.run_id], "epoch/val_loss")[run.run_id]
        assert list(curve) == list(range(1, 9))
