"""Walking forward through the test days: each year is met by models that know all days before it, and no later one."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from pipelines.final.evaluation import open_test_set
from pipelines.final.options import EvaluateOptions, TrainOptions
from pipelines.final.training import train_final
from pipelines.sweep.driver import run_sweep
from research.models.baselines import BASELINES
from research.task.build import assemble
from research.task.windows import WindowDataset
from research.tracking import query, schema
from research.tracking.store import open_store
from tests.support.small_sweeps import options

QUIET = Console(quiet=True)
YEARS = (2016, 2017, 2018)


@pytest.mark.slow
def test_every_year_of_the_test_is_met_by_a_model_that_was_trained_on_what_came_before(
    migrated_store: Path, tmp_path: Path
) -> None:
    root = tmp_path / "mlruns"
    shutil.copytree(migrated_store, root)
    with patch("pipelines.trial.figures.save"):
        with patch("pipelines.sweep.driver.BASELINES", {"prior": BASELINES["prior"]}):
            sweep = run_sweep(options(root, trials=1, epochs=2), QUIET)
        store = open_store(root)
        train_final(store, TrainOptions(budget="2K", seeds=1, device="cpu", threads=1, store=root), QUIET)
        read: list[set[int]] = []
        real = WindowDataset.gather

        def gather(dataset: WindowDataset, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if torch.is_grad_enabled():
                if not read or (read[-1] and dataset is not known[-1]):
                    read.append(set())
                known.append(dataset)
                read[-1].update(rows.reshape(-1).tolist())
            return real(dataset, rows)

        known: list[WindowDataset] = []
        told = io.StringIO()
        with (
            patch.object(WindowDataset, "gather", gather),
            patch("pipelines.final.rebuild.assemble", wraps=assemble) as assembled,
        ):
            run_id = open_test_set(
                store, EvaluateOptions(budget="2K", walk_forward=True, store=root), Console(file=told, width=120)
            )
    # The evaluation and its walk-forward plan share one rebuilt task.
    assembled.assert_called_once()
    prepared = sweep.context.task.prepared
    days, test = prepared.days, prepared.split.test
    before = np.concatenate([prepared.split.train, prepared.split.validation])
    for year, rows in zip(YEARS, read, strict=True):
        sessions = days[days.year < year]
        expected = set(before) | {row for row in test if prepared.label_ends(np.array([row]))[0] <= sessions[-1]}
        assert rows == expected
    runs = query.runs_of_kind(store, list(query.experiments(store)), ("retrained",))
    assert [run.params["trained_on"] for run in runs] == [f"all before {year}" for year in YEARS]
    assert {run.tags[schema.PARENT] for run in runs} == {run_id}

    frozen = pd.read_parquet(store.local_artifact(run_id, schema.TEST_PREDICTIONS_FILE))
    moved = pd.read_parquet(store.local_artifact(run_id, schema.WALK_FORWARD_FILE))
    assert moved["date"].equals(frozen["date"])
    same = frozen["date"].dt.year == 2015
    assert moved.loc[same, "probability"].equals(frozen.loc[same, "probability"])
    assert (moved.loc[~same, "probability"] != frozen.loc[~same, "probability"]).any()
    assert moved.loc[~same].groupby(moved["date"].dt.year)["prior"].nunique().eq(1).all()
    assert moved["prior"].nunique() == 4
    metrics = store.client.get_run(run_id).data.metrics
    assert metrics["walk_forward/loss"] == pytest.approx(moved["loss"].mean(), abs=1e-9)
    assert metrics["walk_forward/vs_frozen_difference"] == pytest.approx(moved["loss"].mean() - frozen["loss"].mean(), abs=1e-9)
    assert "against the model that was not trained again" in told.getvalue()
