"""Reading runs back as tidy tables. Parameters are numbers again, one row per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
from mlflow.entities import Run, ViewType

from research.tracking import schema
from research.tracking.store import Store

PAGE = 1000


def runs(store: Store, *, kinds: Sequence[str], experiment: str | None = None) -> pd.DataFrame:
    """All runs of the given kinds, oldest first.

    Columns: run_id, name, experiment, status, started, seconds, parent_id, and every parameter, metric (last
    value) and tag under its own name; epoch curves are left out.
    """
    found = store.client.search_experiments(view_type=ViewType.ACTIVE_ONLY)
    names = {one.experiment_id: one.name for one in found if experiment in (None, one.name)}
    rows = []
    for kind in kinds if names else ():
        rows += [_row(run, names) for run in _pages(store, list(names), f"tags.{schema.KIND} = '{kind}'")]
    table = pd.DataFrame(rows)
    return table.sort_values("started", kind="stable", ignore_index=True) if len(table) else table


def trials(store: Store, *, experiment: str | None = None) -> pd.DataFrame:
    """Trials and baselines of all sweeps; `outcome` is missing while a trial still runs."""
    table = runs(store, kinds=("trial", "baseline"), experiment=experiment)
    return table if schema.OUTCOME in table.columns or table.empty else table.assign(**{schema.OUTCOME: None})


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run as it stands in the store."""

    run_id: str
    name: str
    kind: str
    status: str
    params: dict[str, int | float | str | bool]
    metrics: dict[str, float]
    """Last value of each."""
    tags: dict[str, str]

    @property
    def outcome(self) -> schema.Outcome | None:
        """None while the run is open."""
        found = self.tags.get(schema.OUTCOME)
        return cast("schema.Outcome | None", found)


def sweep_with(store: Store, experiment_id: str, sweep_fingerprint: str) -> str | None:
    """Run id of the sweep with this fingerprint, or None if it was never started."""
    condition = f"tags.{schema.KIND} = 'sweep' and tags.{schema.SWEEP_FINGERPRINT} = '{sweep_fingerprint}'"
    found = _pages(store, [experiment_id], condition)
    return str(found[0].info.run_id) if found else None


def children(store: Store, experiment_id: str, parent_id: str) -> list[RunRecord]:
    """The nested runs of a parent, oldest first."""
    return [
        RunRecord(
            run_id=run.info.run_id,
            name=str(run.info.run_name),
            kind=run.data.tags[schema.KIND],
            status=run.info.status,
            params={name: _number(text) for name, text in run.data.params.items()},
            metrics=dict(run.data.metrics),
            tags=dict(run.data.tags),
        )
        for run in _pages(store, [experiment_id], f"tags.`{schema.PARENT}` = '{parent_id}'")
    ]


def predictions(store: Store, run_id: str) -> pd.DataFrame:
    """Validation predictions of a run: date, label_end, label, probability, logit, loss (log loss of the day)."""
    return pd.read_parquet(store.local_artifact(run_id, schema.PREDICTIONS_FILE))


def _pages(store: Store, experiment_ids: list[str], condition: str) -> list[Run]:
    found: list[Run] = []
    token: str | None = None
    while True:
        # A stable order keeps pages apart while other processes write.
        page = store.client.search_runs(
            experiment_ids,
            condition,
            max_results=PAGE,
            page_token=token,
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        )
        found += page
        token = page.token
        if not token:
            return found


def _row(run: Run, experiments: dict[str, str]) -> dict[str, Any]:
    tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
    metrics = {name: value for name, value in run.data.metrics.items() if not name.startswith(schema.EPOCH_PREFIX)}
    ended = run.info.end_time
    return {
        **tags,
        **{name: _number(text) for name, text in run.data.params.items()},
        **metrics,
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "experiment": experiments[run.info.experiment_id],
        "experiment_id": run.info.experiment_id,
        "status": run.info.status,
        "started": run.info.start_time,
        "seconds": (ended - run.info.start_time) / 1000 if ended else None,
        "parent_id": run.data.tags.get(schema.PARENT),
    }


def _number(text: str) -> int | float | str | bool:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
