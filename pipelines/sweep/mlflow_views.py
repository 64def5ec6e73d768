"""Saved views of MLflow's run pages: a link opens the right runs, sorted, with the columns and charts that matter.

MLflow shows no metric and no parameter column and one chart per metric until somebody chooses. A saved view is a tag of
the experiment, in the form that the pages' own button "Views" writes; a link names it by its key.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pipelines.serving.ui import UI_PORT
from research.tracking import schema
from research.tracking.store import Store

if TYPE_CHECKING:
    from research.task.task import Task

COLUMNS = (
    "metrics.`val_loss`",
    "metrics.`val_skill`",
    "metrics.`n_params`",
    "params.`d_model`",
    "params.`n_layers`",
    "params.`n_heads`",
    "params.`learning_rate`",
    "tags.`outcome`",
)
COORDINATES = ("d_model", "n_layers", "n_heads", "weight_decay", "dropout", "warmup_steps", "batch_size")
"""Parameters of the parallel coordinates; the learning rate is among them as its logarithm, a metric."""
AGAINST_LOSS = {"n_params": "METRIC", "log10_learning_rate": "METRIC", "n_layers": "PARAM"}
"""Horizontal axes of the scatter charts."""
SECTIONS = {"search": 1, "against val_loss": 2, "epoch": 2, "Model metrics": 3, "progress": 3, "System metrics": 3}
"""Sections of the charts and the charts side by side in each; MLflow fills those after the second by itself."""
OPEN_SECTIONS = 2
TRAINING = "workflowType=machine_learning"
"""Without it MLflow's pages take an experiment for one of language models, and lead to traces."""
TRIALS_KEY = "trials"
TRIALS_COLUMNS = (*COLUMNS[:3], "params.`budget`", "params.`d_model`", "params.`horizon`", "params.`n_layers`")
"""As many as a window of usual width shows; trials of several sweeps differ by budget and horizon."""


def save_sweep_view(store: Store, experiment_id: str, title: str, parent_id: str) -> None:
    """A view of one sweep's children, best first."""
    _save(store, experiment_id, _key(parent_id), f"{title}, best first", f"tags.`{schema.PARENT}` = '{parent_id}'", COLUMNS)


def describe_experiment(store: Store, experiment_id: str, task: Task) -> None:
    """A view of the trials of all the experiment's sweeps, and its description unless somebody has written one."""
    condition = f"tags.`{schema.KIND}` = 'trial'"
    _save(store, experiment_id, TRIALS_KEY, "all trials, best first", condition, TRIALS_COLUMNS)
    if schema.NOTE not in store.client.get_experiment(experiment_id).tags:
        store.client.set_experiment_tag(experiment_id, schema.NOTE, _description(experiment_id, task))


def sweep_link(store: Store, experiment_id: str, parent_id: str, *, charts: bool = False) -> str:
    """Full address of a sweep's view."""
    pages = f"http://127.0.0.1:{UI_PORT}" if store.is_local else store.patience.where
    return f"{pages}/{sweep_page(experiment_id, parent_id, charts=charts)}"


def sweep_page(experiment_id: str, parent_id: str, *, charts: bool = False) -> str:
    """Address of a sweep's view within MLflow's pages: the table, or the charts beside its runs' names."""
    return _view(experiment_id, _key(parent_id), charts=charts)


def run_page(experiment_id: str, run_id: str) -> str:
    """Address of a run's page within MLflow's pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{TRAINING}"


def _key(parent_id: str) -> str:
    return parent_id[:12]


def _view(experiment_id: str, key: str, *, charts: bool = False) -> str:
    query = urlencode({"viewStateShareKey": key, **({"compareRunsMode": "CHART"} if charts else {})})
    return f"#/experiments/{experiment_id}/runs?{query}&{TRAINING}"


def _description(experiment_id: str, task: Task) -> str:
    question = replace(task.spec.target, horizon=1).question
    return "\n".join(
        [
            f"**{task.spec.data.title}**: {question} Or within more: the number after `h` in a sweep's name.",
            "",
            f"[All trials, best first]({_view(experiment_id, TRIALS_KEY)}) · "
            f"[their charts]({_view(experiment_id, TRIALS_KEY, charts=True)}) · each sweep's own under *Views*.",
            "",
            "By the tag `run_kind`: a `sweep` is the parent of its `trial`, `baseline` and `replicate` runs, one size and one "
            "horizon. A `final` is the best trial trained again on all days before the test; an `evaluation` opens the test. "
            "`val_loss` (nats, lower is better) is what the search minimises; `val_skill` is 1 - loss / loss of the base rate.",
        ]
    )


def _save(store: Store, experiment_id: str, key: str, name: str, condition: str, columns: tuple[str, ...]) -> None:
    now = int(time.time() * 1000)
    view = {"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(_state(condition, columns))}
    store.client.set_experiment_tag(experiment_id, f"{schema.SHARED_VIEW}{key}", json.dumps(view))


def _state(condition: str, columns: tuple[str, ...]) -> dict[str, object]:
    """What MLflow's pages keep of themselves."""
    return {
        "searchFilter": condition,
        "orderByKey": "metrics.`val_loss`",
        "orderByAsc": True,
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": _charts(),
        "compareRunSections": [
            {"uuid": name, "name": name, "columns": side_by_side, "display": place < OPEN_SECTIONS, "isReordered": True}
            for place, (name, side_by_side) in enumerate(SECTIONS.items())
        ],
        "isAccordionReordered": True,
    }


def _charts() -> list[dict[str, object]]:
    loss = {"key": "val_loss", "type": "METRIC"}
    search, against = list(SECTIONS)[:OPEN_SECTIONS]
    coordinates = {"selectedParams": COORDINATES, "selectedMetrics": ["log10_learning_rate", "val_loss"], "showAllRuns": True}
    scatters: list[dict[str, object]] = [
        {"xaxis": {"key": key, "type": kind}, "yaxis": loss} for key, kind in AGAINST_LOSS.items()
    ]
    charts: list[tuple[str, str, dict[str, object]]] = [
        ("PARALLEL", search, coordinates),
        *[("SCATTER", against, axes) for axes in scatters],
        ("LINE", against, {"metricKey": "epoch/val_loss", "selectedMetricKeys": ["epoch/val_loss"], "xAxisKey": "step"}),
    ]
    return [
        {"uuid": f"chart-{place}", "type": kind, "metricSectionId": section, "runsCountToCompare": 20, **settings}
        for place, (kind, section, settings) in enumerate(charts)
    ]
