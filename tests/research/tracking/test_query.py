from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from research.errors import InputError
from research.tracking import query, schema
from research.tracking import sqlite_reader as sql
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store


@pytest.fixture
def store(store_root: Path) -> Store:
    return open_store(store_root)


@pytest.fixture
def written(store: Store) -> Store:
    """A sweep with children of every awkward sort, one deleted run and one deleted experiment."""
    experiment = store.experiment("sp500-threshold-1pct")
    parent = start(store, experiment, "2K-h1", kind="sweep", tags={schema.SWEEP_FINGERPRINT: "s1"})
    for number in range(3):
        values = {"number": number, "learning_rate": 0.1 + 0.2, "window_norm": True, "digest": "1_000", "note": "it's"}
        child = start(
            store, experiment, f"000{number}", parent=parent.run_id, params=values, tags={"trial_fingerprint": "it's"}
        )
        for step, value in enumerate((0.7, float("nan"), 0.5)):
            child.metric("epoch/val_loss", value, step=step)
        child.metric(schema.PROGRESS_STEP, 7.0, step=7)
        child.finish("complete", metrics={"val_loss": 0.5, "grad": float("inf"), "drop": float("-inf"), "auc": float("nan")})
    start(store, experiment, "baseline prior", kind="baseline", parent=parent.run_id).finish("crashed")
    start(store, experiment, "still open", parent=parent.run_id)
    deleted = start(store, experiment, "deleted", parent=parent.run_id)
    store.client.delete_run(deleted.run_id)
    gone = store.experiment("gone")
    start(store, gone, "of a deleted experiment").finish("complete")
    store.client.delete_experiment(gone)
    return store


def start(
    store: Store,
    experiment: str,
    name: str,
    *,
    kind: schema.RunKind = "trial",
    parent: str | None = None,
    params: dict[str, int | float | str | bool] | None = None,
    tags: dict[str, str] | None = None,
) -> RunLog:
    return RunLog.start(
        store, experiment_id=experiment, kind=kind, name=name, params=params or {}, tags=tags or {}, parent_id=parent
    )


def only(monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    """Read by `sql` or by the `client` alone; the other one fails."""
    if reader == "client":
        monkeypatch.setattr(sql, "is_readable", lambda _: False)
        for name in ("records", "tag", "experiment_of"):
            monkeypatch.setattr(sql, name, None)
    else:
        for name in ("search_runs", "get_metric_history", "get_run", "get_experiment"):
            monkeypatch.setattr(mlflow.MlflowClient, name, None)


@pytest.mark.parametrize("reader", ["sql", "client"])
def test_a_table_has_what_was_written(written: Store, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    only(monkeypatch, reader)
    table = query.trials(written)
    assert table["name"].tolist() == ["0000", "0001", "0002", "baseline prior", "still open"]
    first = table.iloc[0]
    assert (first["learning_rate"], first["window_norm"], first["digest"]) == (0.1 + 0.2, True, "1_000")
    assert (first["val_loss"], first["grad"], first["drop"]) == (0.5, math.inf, -math.inf)
    assert math.isnan(first["auc"])
    assert not [name for name in table.columns if name.startswith(("epoch/", "progress/", "mlflow."))]


def test_a_table_has_the_types_that_its_columns_mean(written: Store) -> None:
    table = query.trials(written)
    assert tuple(table.columns[: len(query.LEADING)]) == query.LEADING
    assert [str(table[name].dtype) for name in ("number", "window_norm", "val_loss")] == ["Int64", "boolean", "float64"]
    assert table["number"].isna().tolist() == [False] * 3 + [True] * 2
    assert table["started"].is_monotonic_increasing
    assert str(table["started"].dt.tz) == "UTC"


def test_sql_and_client_read_the_same(written: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = written.experiment("sp500-threshold-1pct")
    (sweep,) = query.runs(written, kinds=("sweep",))["run_id"]

    def everything() -> list[object]:
        return [
            query.sweep_with(written, experiment, "s1"),
            query.sweep_with(written, experiment, "no such"),
            query.experiments(written),
            query.experiments(written, "sp500-threshold-1pct"),
            [run.run_id for run in query.runs_of_kind(written, [experiment], ("sweep", "baseline"))],
            query.metric_history(written, [run.run_id for run in query.children(written, experiment, sweep)], "epoch/val_loss"),
            [repr(sorted_(run)) for run in query.children(written, experiment, sweep)],
            [run.run_id for run in query.runs_with_tag(written, experiment, "trial_fingerprint", "it's")],
            repr(
                query.histories(written, [run.run_id for run in query.children(written, experiment, sweep)], "epoch/val_loss")
            ),
        ]

    kinds = ("sweep", "trial", "baseline", "replicate")
    table, rest = query.runs(written, kinds=kinds), everything()
    only(monkeypatch, "client")
    pd.testing.assert_frame_equal(table, query.runs(written, kinds=kinds), check_like=True)
    assert rest == everything()
    assert rest[0] == sweep
    assert rest[1] is None


def sorted_(run: query.RunRecord) -> tuple[object, ...]:
    parts = (sorted(run.params.items()), sorted(run.metrics.items()), sorted(run.tags.items()))
    return (run.run_id, run.name, run.kind, run.status, run.started, run.ended, run.experiment_id, *parts)


@pytest.mark.parametrize("reader", ["sql", "client"])
def test_children_come_oldest_first_and_by_id_where_they_started_together(
    store: Store, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    experiment = store.experiment("e")
    made = [start(store, experiment, str(number), parent="p").run_id for number in range(6)]
    with sqlite3.connect(store.database) as connection:
        connection.execute("UPDATE runs SET start_time = 5")
        connection.execute("UPDATE runs SET start_time = 4 WHERE run_uuid = ?", (made[3],))
    only(monkeypatch, reader)
    assert [run.run_id for run in query.children(store, experiment, "p")] == [made[3], *sorted(set(made) - {made[3]})]


@pytest.mark.parametrize("reader", ["sql", "client"])
def test_a_step_logged_twice_counts_with_its_later_value(store: Store, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    log, other = (start(store, store.experiment("e"), name) for name in ("0000", "0001"))
    for step, time, value in ((1, 20, 0.4), (1, 10, 0.9), (2, 5, 0.2), (2, 6, 0.3)):
        store.client.log_metric(log.run_id, "epoch/val_loss", value, timestamp=time, step=step)
    only(monkeypatch, reader)
    found = query.histories(store, [log.run_id, other.run_id], "epoch/val_loss")
    assert found == {log.run_id: {1: 0.4, 2: 0.3}, other.run_id: {}}


@pytest.mark.parametrize("reader", ["sql", "client"])
def test_moments_come_in_the_order_of_their_time(store: Store, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    log, other = (start(store, store.experiment("e"), name) for name in ("0000", "0001"))
    for step, at in ((9, 20), (5, 30), (3, 10), (4, 10)):
        store.client.log_metric(log.run_id, schema.PROGRESS_STEP, float(step), timestamp=at, step=step)
    only(monkeypatch, reader)
    found = query.metric_history(store, [log.run_id, other.run_id], schema.PROGRESS_STEP)
    assert found == {log.run_id: [(10, 3), (10, 4), (20, 9), (30, 5)], other.run_id: []}


@pytest.mark.parametrize("reader", ["sql", "client"])
def test_a_deleted_evaluation_is_still_a_look(store: Store, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    log = RunLog.start(store, experiment_id=store.experiment("e"), kind="evaluation", name="a", params={}, tags={})
    log.finish("complete")
    store.client.delete_run(log.run_id)
    only(monkeypatch, reader)
    assert [run.run_id for run in query.evaluations(store)] == [log.run_id]
    assert query.runs_of_kind(store, list(query.experiments(store)), ("evaluation",)) == []


@pytest.mark.parametrize("reader", ["sql", "client"])
def test_deleted_experiments_are_not_there(written: Store, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    only(monkeypatch, reader)
    assert set(query.experiments(written).values()) == {"Default", "sp500-threshold-1pct"}
    assert list(query.experiments(written, "sp500-threshold-1pct").values()) == ["sp500-threshold-1pct"]
    assert query.experiments(written, "gone") == {}


def test_with_tag_finds_the_kinds_asked_for(written: Store) -> None:
    experiment = written.experiment("sp500-threshold-1pct")
    found = query.runs_with_tag(written, experiment, schema.SWEEP_FINGERPRINT, "s1", kinds=("sweep",))
    assert [run.name for run in found] == ["2K-h1"]
    assert query.runs_with_tag(written, experiment, schema.SWEEP_FINGERPRINT, "s1") == []


@pytest.mark.parametrize("reader", ["sql", "client"])
def test_predictions_of_a_linked_run_are_those_of_the_run_it_stands_for(
    store: Store, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    experiment = store.experiment("e")
    original = start(store, experiment, "0000")
    original.artifacts(lambda folder: pd.DataFrame({"loss": [0.25]}).to_parquet(folder / schema.PREDICTIONS_FILE))
    linked = start(store, store.experiment("another"), "0001", tags={schema.LINKED: original.run_id})
    only(monkeypatch, reader)
    assert query.predictions(store, original.run_id)["loss"].tolist() == [0.25]
    assert query.predictions(store, linked.run_id)["loss"].tolist() == [0.25]


@pytest.mark.parametrize("run_id", ["unknown", "without"])
def test_predictions_that_are_not_there_are_named(store: Store, run_id: str) -> None:
    without = start(store, store.experiment("e"), "0000").run_id
    asked = without if run_id == "without" else run_id
    with pytest.raises(InputError, match=f"run {asked} has no artifact {schema.PREDICTIONS_FILE}"):
        query.predictions(store, asked)


def test_reading_does_not_wait_for_a_writer(written: Store) -> None:
    with sqlite3.connect(written.database, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM tags")
        assert len(sql.records(written.database, [written.experiment("sp500-threshold-1pct")], {})) == 6
        writer.execute("ROLLBACK")


def test_the_statements_are_for_the_tables_of_the_installed_mlflow(store: Store) -> None:
    assert sql.is_readable(store.database)


def test_another_table_layout_is_left_to_the_client(written: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = query.trials(written)
    monkeypatch.setattr(sql, "REVISION", "another")
    monkeypatch.setattr(sql, "records", None)
    assert query.trials(written)["run_id"].tolist() == expected["run_id"].tolist()


def test_a_damaged_database_is_named(written: Store) -> None:
    with sqlite3.connect(written.database) as connection:
        connection.execute("ALTER TABLE latest_metrics RENAME TO lost")
    with pytest.raises(InputError, match=r"mlflow\.db: .*no such table: latest_metrics"):
        query.trials(written)
    written.database.write_bytes(b"this is not a database " * 1000)
    with pytest.raises(InputError, match=r"mlflow\.db: .*(malformed|not a database)"):
        query.histories(written, ["x"], "epoch/val_loss")


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(InputError, match="readonly database"), sql._reading(store.database) as connection:
        connection.execute("DELETE FROM runs")


def test_a_baseline_without_a_short_name_is_shown_by_its_own_after_the_known_ones() -> None:
    assert list(schema.baseline_titles(["tree", "lightgbm", "prior", "bush"]).items()) == [
        ("prior", "prior"),
        ("lightgbm", "LightGBM"),
        ("bush", "bush"),
        ("tree", "tree"),
    ]
