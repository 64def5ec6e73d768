"""Saved views of MLflow's pages, as the store holds them; tests/pipelines/sweep/test_browser.py looks at the pages."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.sweep.mlflow_views import save_sweep_view, sweep_link
from research.tracking import schema
from research.tracking.store import Store, open_store

PARENT = "97310c643e9d4af185b323223571bdb2"


def views_of(store: Store, experiment_id: str) -> dict[str, dict]:
    tags = store.client.get_experiment(experiment_id).tags
    return {key: json.loads(value) for key, value in tags.items() if key.startswith(schema.SHARED_VIEW)}


def test_a_sweep_has_one_view_of_its_children_by_loss_and_its_link_names_it(store_root: Path) -> None:
    store = open_store(store_root)
    experiment = store.experiment("sp500-threshold-1pct")
    for _ in range(2):
        save_sweep_view(store, experiment, "200M-h5-w16K-everywhere", PARENT)
    ((key, view),) = views_of(store, experiment).items()
    assert view["name"] == "200M-h5-w16K-everywhere, best first"
    state = json.loads(view["state"])
    assert state["searchFilter"] == f"tags.`mlflow.parentRunId` = '{PARENT}'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`val_loss`", True)
    assert "metrics.`val_loss`" in state["selectedColumns"]
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert all(chart["metricSectionId"] in sections for chart in state["compareRunCharts"])
    assert "val_loss" in state["compareRunCharts"][0]["selectedMetrics"]

    link = sweep_link(store, experiment, PARENT)
    assert link.startswith(f"http://127.0.0.1:5000/#/experiments/{experiment}/runs?")
    assert f"viewStateShareKey={key.removeprefix(schema.SHARED_VIEW)}&" in link
    assert "searchFilter" not in link  # MLflow shows no view where the link has a filter of its own


def test_a_server_is_named_in_the_link_without_its_password() -> None:
    store = Store(root=Path("mlruns"), uri="https://me:secret@tracking.example/mlflow")
    link = sweep_link(store, "2", PARENT, charts=True)
    assert link.startswith("https://tracking.example/mlflow/#/experiments/2/runs?")
    assert "compareRunsMode=CHART" in link
