"""One tiny sweep on a real store, from bundled bars to a served model and a leaderboard."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from rich.console import Console

from analysis.results.frontier import frontiers
from pipelines.options import SweepOptions
from pipelines.serving.packaging import example_of
from pipelines.sweep.driver import run_sweep
from pipelines.sweep.state import Sweep
from research.models.accounting import parameter_count
from research.spec import ArchitectureSpec
from research.tracking import query, schema
from research.tracking.store import Store, open_store

BASELINES = {"prior", "volatility", "logistic", "lightgbm"}
TRIALS = 3


def options(root: Path, **changes: object) -> SweepOptions:
    chosen = {
        "budget": "2K",
        "trials": TRIALS,
        "epochs": 2,
        "device": "cpu",
        "workers": 1,
        "threads": 1,
        "store": root,
        **changes,
    }
    return SweepOptions(**chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def root(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("end_to_end") / "mlruns"
    shutil.copytree(migrated_store, folder)
    return folder


@pytest.fixture(scope="module")
def sweep(root: Path) -> Sweep:
    return run_sweep(options(root), Console(quiet=True))


@pytest.fixture(scope="module")
def store(sweep: Sweep, root: Path) -> Store:
    return open_store(root)


@pytest.fixture(scope="module")
def children(sweep: Sweep, store: Store) -> list[Run]:
    condition = f"tags.`{schema.PARENT}` = '{sweep.log.run_id}'"
    return list(store.client.search_runs([sweep.context.experiment_id], condition))


def trials_of(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.data.tags[schema.KIND] == "trial"]


def test_every_trial_and_baseline_is_a_finished_child_of_the_parent(sweep: Sweep, store: Store, children: list[Run]) -> None:
    parent = store.client.get_run(sweep.log.run_id)
    assert parent.data.tags[schema.KIND] == "sweep"
    assert parent.info.run_name == "2K-h1"
    assert parent.info.status == "FINISHED"
    assert len(trials_of(children)) == TRIALS
    assert {run.data.params["baseline"] for run in children if run.data.tags[schema.KIND] == "baseline"} == BASELINES
    assert {(run.info.status, run.data.tags[schema.OUTCOME]) for run in children} == {("FINISHED", "complete")}


def test_a_trial_carries_parameters_metrics_and_tags(children: list[Run]) -> None:
    for run in trials_of(children):
        params = {
            "budget", "d_model", "n_layers", "n_heads", "d_ff", "context_length", "patch_length", "patch_stride", "horizon",
            "threshold", "touch", "feature_set", "learning_rate", "weight_decay", "dropout", "warmup_steps", "batch_size",
            "epochs", "seed",
        }  # fmt: skip
        assert params <= set(run.data.params)
        metrics = {
            "val_loss", "val_loss_last", "val_auc", "val_brier", "val_ece", "val_skill", "n_params", "flops_per_sample",
            "samples_per_second", "peak_memory_bytes", "best_epoch", "epoch/val_loss", "epoch/train_loss",
        }  # fmt: skip
        assert metrics <= set(run.data.metrics)
        tags = {
            "sweep_fingerprint", "trial_fingerprint", "config_fingerprint", "snapshot_digest", "target_digest",
            "git_commit", "git_dirty", "outcome",
        }  # fmt: skip
        assert tags <= set(run.data.tags)
        assert {one.dataset.digest for one in run.inputs.dataset_inputs} == {
            run.data.tags["snapshot_digest"],
            run.data.tags["target_digest"],
        }


def test_sizes_are_counted_and_losses_are_those_of_the_stored_predictions(store: Store, children: list[Run]) -> None:
    for run in trials_of(children):
        p = run.data.params
        shape = ArchitectureSpec(
            d_model=int(p["d_model"]), n_layers=int(p["n_layers"]), n_heads=int(p["n_heads"]), d_ff=int(p["d_ff"])
        )
        assert run.data.metrics["n_params"] == parameter_count(shape)
        days = query.predictions(store, run.info.run_id)
        assert run.data.metrics["val_loss"] == pytest.approx(days["loss"].mean(), abs=1e-12)
        naive = np.where(days["label"] == 1, -np.log(days["probability"]), -np.log1p(-days["probability"]))
        assert days["loss"].to_numpy() == pytest.approx(naive, abs=1e-9)
        assert (days["label_end"] > days["date"]).all()
        assert days["date"].min() >= pd.Timestamp("2012-01-01")
        assert days["date"].max() <= pd.Timestamp("2015-06-30")


def test_epoch_curves_are_whole(store: Store, children: list[Run]) -> None:
    run = trials_of(children)[0]
    curve = store.client.get_metric_history(run.info.run_id, "epoch/val_loss")
    assert [point.step for point in curve] == [1, 2]
    assert min(point.value for point in curve) == run.data.metrics["val_loss"]


def test_artifacts_are_there(sweep: Sweep, store: Store, children: list[Run]) -> None:
    run = trials_of(children)[0]
    names = {item.path for item in store.client.list_artifacts(run.info.run_id)}
    expected = {"spec.json", "curve.csv", "curve.png", "reliability.png", "roc.png", "environment.json"}
    assert expected | {schema.PREDICTIONS_FILE} <= names
    spec = json.loads(store.local_artifact(run.info.run_id, "spec.json").read_text())
    assert spec["training"]["learning_rate"] == float(run.data.params["learning_rate"])
    parent = {item.path for item in store.client.list_artifacts(sweep.log.run_id)}
    assert {"search_history.png", "parallel_coordinates.png", "trials.csv"} <= parent


def test_the_parent_shows_the_leaderboard_and_names_the_best_child(sweep: Sweep, store: Store, children: list[Run]) -> None:
    parent = store.client.get_run(sweep.log.run_id)
    best = min(trials_of(children), key=lambda run: run.data.metrics["val_loss"])
    assert parent.data.tags[schema.BEST_RUN] == best.info.run_id
    note = parent.data.tags[schema.NOTE]
    assert best.info.run_name in note
    assert "logistic regression" in note
    assert "sweep/test_base_rate" not in parent.data.metrics
    assert parent.data.metrics["sweep/validation_n"] == best.data.metrics["val_n"]


def test_the_extremes_of_the_grid_are_tried_first(children: list[Run]) -> None:
    first = sorted(trials_of(children), key=lambda run: int(run.data.params["number"]))[:2]
    assert [run.data.tags[schema.PROPOSED_BY] for run in first] == ["enqueued", "enqueued"]
    assert int(first[0].data.params["n_layers"]) == 8
    assert int(first[1].data.params["n_layers"]) == 2


def test_the_snapshot_is_a_run_with_its_manifest(sweep: Sweep, store: Store) -> None:
    experiment = store.client.get_experiment_by_name(schema.SNAPSHOT_EXPERIMENT)
    (run,) = store.client.search_runs([experiment.experiment_id])
    assert run.data.tags[schema.SNAPSHOT_DIGEST] == sweep.context.task.snapshot.digest
    manifest = json.loads(store.local_artifact(run.info.run_id, "manifest.json").read_text())
    facts = manifest["symbols"]["^GSPC"]
    assert (facts["rows"], facts["first"], facts["last"]) == (5031, "1999-01-04", "2018-12-31")


def test_the_registered_model_gives_the_training_probabilities_from_raw_bars(sweep: Sweep, store: Store) -> None:
    version = store.client.get_model_version_by_alias("sp500-threshold-1pct-2K-h1", schema.CHALLENGER)
    model = mlflow.pyfunc.load_model(version.source)
    bars = example_of(sweep.context.task, days=5000)
    bars = bars[bars["date"] <= "2015-06-30"]
    served = model.predict(bars).set_index("date")["probability"]
    assert sweep.best is not None
    trained = query.predictions(store, sweep.best.run_id)
    assert served[trained["date"].dt.strftime("%Y-%m-%d")].to_numpy() == pytest.approx(trained["probability"], abs=1e-6)


def test_the_same_sweep_elsewhere_gives_the_same_losses_to_the_bit(sweep: Sweep, store_root: Path) -> None:
    again = run_sweep(options(store_root), Console(quiet=True))
    assert losses(again) == losses(sweep)


def losses(sweep: Sweep) -> dict[str, float]:
    return {one.name: one.val_loss for one in sweep.finished}


def test_the_horizon_reaches_labels_digest_base_rate_and_names(sweep: Sweep, root: Path, store: Store) -> None:
    other = run_sweep(options(root, horizon=3, trials=1, epochs=1), Console(quiet=True))
    one, three = sweep.context.task, other.context.task
    assert one.prepared.target_digest != three.prepared.target_digest
    assert three.training_base_rate > one.training_base_rate + 0.1
    assert store.client.get_run(other.log.run_id).info.run_name == "2K-h3"
    assert [frontier.horizon for frontier in frontiers(store, None)] == [1, 3]


def test_leaderboard_and_scaling_read_the_store_from_the_command_line(sweep: Sweep, root: Path) -> None:
    assert sweep.best is not None
    board = subprocess.run(
        [sys.executable, "-m", "tapescale", "leaderboard", "--store", str(root)], capture_output=True, text=True, check=True
    )
    assert f"{sweep.best.n_parameters:,}" in board.stdout
    assert f"{sweep.best.val_loss:.4f}" in board.stdout
    assert "noise" in board.stdout
    scaling = subprocess.run(
        [sys.executable, "-m", "tapescale", "scaling", "--store", str(root)], capture_output=True, text=True, check=True
    )
    assert "no trend can be fitted" in scaling.stdout
    (figure,) = (root / "reports").glob("scaling-sp500-threshold-1pct-h1-a25s-*.png")
    assert figure.stat().st_size > 5_000
    assert len(pd.read_csv(figure.with_suffix(".csv"))) == TRIALS
