"""Runs as records and tables, one row per run, parameters as numbers.

A local store is read by SQL, a server by pages of `search_runs`; both give the same result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from research.tracking import schema
from research.tracking import sqlite_reader as sql
from research.tracking.run_record import RunRecord, measured, numbers
from research.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

__all__ = [
    "RunRecord",
    "children",
    "evaluations",
    "experiments",
    "histories",
    "metric_history",
    "predictions",
    "run_with_artifacts",
    "runs",
    "runs_of_kind",
    "runs_with_tag",
    "sweep_with",
    "trials",
]

LEADING = (
    *("run_id", "name", schema.KIND, "experiment", "parent_id", "status", schema.OUTCOME, "started", "seconds"),
    *("budget", "horizon", "n_params", "d_model", "n_layers", "n_heads", "d_ff", schema.PROPOSED_BY, "val_loss", "val_skill"),
)
"""First columns of `trials`: run, outcome, architecture and result."""
PAGE = 1000
CURVES = (schema.EPOCH_PREFIX, "progress/", "system/")
"""Metrics with a history: their last value has no meaning in a table."""


def runs(store: Store, *, kinds: Sequence[str], experiment: str | None = None, adopted: bool | None = None) -> pd.DataFrame:
    """Return all runs of the given kinds, oldest first; only adopted or only native ones if `adopted` is given.

    Columns: run_id, name, experiment, status, started, seconds, parent_id, and every parameter, metric (last
    value) and tag under its own name; curves are left out.
    """
    import pandas as pd

    names = experiments(store, experiment)
    records = runs_of_kind(store, list(names), kinds)
    if adopted is not None:
        records = [run for run in records if (schema.ADOPTED_FINGERPRINT in run.tags) == adopted]
    return pd.DataFrame([_row(run, names) for run in records])


def experiments(store: Store, name: str | None = None) -> dict[str, str]:
    """Return id -> name of all active experiments, or of the one with the given name."""
    if store.is_read_by_sql:
        names = store.patience.call(sql.experiments, store.database)
    else:
        names = {experiment.experiment_id: experiment.name for experiment in store.client.search_experiments()}
    return {experiment_id: experiment for experiment_id, experiment in names.items() if name in (None, experiment)}


def runs_of_kind(store: Store, experiment_ids: Sequence[str], kinds: Sequence[str]) -> list[RunRecord]:
    """Return all runs of the given kinds in some experiments, oldest first."""
    return _records(store, experiment_ids, {schema.KIND: kinds})


def evaluations(store: Store) -> list[RunRecord]:
    """Return every evaluation on test days, oldest first.

    Deleted ones are included until `mlflow gc` removes them: they have used the days.
    """
    return _records(store, list(experiments(store)), {schema.KIND: ("evaluation",)}, deleted=True)


def trials(store: Store, *, experiment: str | None = None) -> pd.DataFrame:
    """Return the trials and baselines of all sweeps, without adopted ones, one row each, oldest first.

    The columns of `LEADING` come first and always exist; then every parameter, metric and tag under its own name
    (`research.tracking.schema`), missing if a run has none: a baseline has no `d_model`, a running trial no `outcome`.
    `started` is a time in UTC, whole numbers are Int64, `window_norm` is boolean, metrics are float64.
    """
    import pandas as pd

    table = runs(store, kinds=("trial", "baseline"), experiment=experiment, adopted=False)
    if table.empty:
        return table
    order = [*LEADING, *(name for name in table.columns if name not in LEADING)]
    whole = {name: pd.to_numeric(table[name]).astype("Int64") for name in schema.WHOLE_NUMBERS if name in table.columns}
    flags = {name: table[name].astype("boolean") for name in schema.FLAGS if name in table.columns}
    started = pd.to_datetime(table["started"], unit="ms", utc=True)
    return table.reindex(columns=order).assign(**whole, **flags, started=started)


def sweep_with(store: Store, experiment_id: str, sweep_fingerprint: str) -> str | None:
    """Return the run id of the sweep with a fingerprint, or None if it was never started."""
    sweeps = runs_with_tag(store, experiment_id, schema.SWEEP_FINGERPRINT, sweep_fingerprint, kinds=("sweep",))
    return sweeps[0].run_id if sweeps else None


def children(store: Store, experiment_id: str, parent_id: str) -> list[RunRecord]:
    """Return the nested runs of a parent, oldest first."""
    return _records(store, [experiment_id], {schema.PARENT: [parent_id]})


def runs_with_tag(
    store: Store, experiment_id: str, tag: str, value: str, *, kinds: Sequence[str] = ("trial", "baseline")
) -> list[RunRecord]:
    """Return the runs of an experiment with a value of a tag, oldest first."""
    return _records(store, [experiment_id], {schema.KIND: kinds, tag: [value]})


def histories(store: Store, run_ids: Sequence[str], metric: str) -> dict[str, dict[int, float]]:
    """Return the curves of one metric: run id -> step -> last value; empty for a run without the metric."""
    if store.is_read_by_sql:
        return store.patience.call(sql.histories, store.database, run_ids, metric)
    return {run_id: _history(store, run_id, metric) for run_id in run_ids}


def metric_history(store: Store, run_ids: Sequence[str], metric: str) -> dict[str, list[tuple[int, int]]]:
    """Return when each value of a metric was logged: run id -> (milliseconds since 1970, step), oldest first."""
    if store.is_read_by_sql:
        return store.patience.call(sql.moments, store.database, run_ids, metric)
    points = {run_id: store.client.get_metric_history(run_id, metric) for run_id in run_ids}
    return {run_id: sorted((point.timestamp, point.step) for point in history) for run_id, history in points.items()}


def predictions(store: Store, run_id: str) -> pd.DataFrame:
    """Return the validation predictions of a run: date, label_end, label, probability, logit, loss (log loss of the day).

    A linked run has the predictions of the run that it links to.
    """
    import pandas as pd

    return pd.read_parquet(store.local_artifact(run_with_artifacts(store, run_id), schema.PREDICTIONS_FILE))


def run_with_artifacts(store: Store, run_id: str) -> str:
    """Return the id of the run with the artifacts and curves: the target of a linked run, any other run itself."""
    return _tag(store, run_id, schema.LINKED) or run_id


def _tag(store: Store, run_id: str, name: str) -> str | None:
    if store.is_read_by_sql:
        return store.patience.call(sql.tag, store.database, run_id, name)
    return store.client.get_run(run_id).data.tags.get(name)


def _records(
    store: Store, experiment_ids: Sequence[str], tags: Mapping[str, Sequence[str]], *, deleted: bool = False
) -> list[RunRecord]:
    """Return the runs with one of the given values of every given tag, by start and then by id."""
    if store.is_read_by_sql:
        return store.patience.call(partial(sql.records, deleted=deleted), store.database, experiment_ids, tags)
    if not experiment_ids:
        return []
    combinations = (zip(tags, values) for values in product(*tags.values()))
    from mlflow.entities import ViewType

    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    conditions = (" and ".join(f"tags.`{name}` = {_quoted(value)}" for name, value in pairs) for pairs in combinations)
    records = (_record(run) for condition in conditions for run in _pages(store, experiment_ids, condition, view))
    return sorted(records, key=lambda run: (run.started, run.run_id))


def _pages(store: Store, experiment_ids: Sequence[str], condition: str, view: int) -> Iterator[Run]:
    token: str | None = None
    while True:
        # A stable order keeps pages apart while other processes write.
        page = store.client.search_runs(
            list(experiment_ids),
            condition,
            run_view_type=view,
            max_results=PAGE,
            page_token=token,
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        )
        yield from page
        token = page.token
        if not token:
            return


def _record(run: Run) -> RunRecord:
    return RunRecord(
        run_id=run.info.run_id,
        name=str(run.info.run_name),
        kind=run.data.tags.get(schema.KIND, ""),
        status=run.info.status,
        experiment_id=run.info.experiment_id,
        started=run.info.start_time,
        ended=run.info.end_time,
        params=numbers(run.data.params),
        metrics={name: measured(value) for name, value in run.data.metrics.items()},
        tags=dict(run.data.tags),
    )


def _history(store: Store, run_id: str, metric: str) -> dict[int, float]:
    points = store.client.get_metric_history(run_id, metric)
    ordered = sorted(points, key=lambda point: (point.step, point.timestamp, point.value))
    return {point.step: measured(point.value) for point in ordered}


def _row(run: RunRecord, experiments: dict[str, str]) -> dict[str, Any]:
    return {
        **{name: value for name, value in run.tags.items() if not name.startswith("mlflow.")},
        **run.params,
        **{name: value for name, value in run.metrics.items() if not name.startswith(CURVES)},
        "run_id": run.run_id,
        "name": run.name,
        "experiment": experiments[run.experiment_id],
        "experiment_id": run.experiment_id,
        "status": run.status,
        "started": run.started,
        "seconds": (run.ended - run.started) / 1000 if run.ended else None,
        "parent_id": run.tags.get(schema.PARENT),
    }


def _quoted(text: str) -> str:
    """Return a value quoted for MLflow's filter language, which has no escapes."""
    return f'"{text}"' if "'" in text else f"'{text}'"
