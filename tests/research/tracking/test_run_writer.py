from __future__ import annotations

import math
from pathlib import Path

import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from research.tracking import query, registry, schema
from research.tracking.run_writer import Input, RunLog
from research.tracking.store import Store, open_store


@pytest.fixture
def store(store_root: Path) -> Store:
    return open_store(store_root)


def start(store: Store, name: str = "0000", kind: schema.RunKind = "trial", **params: int | float | str) -> RunLog:
    return RunLog.start(
        store, experiment_id=store.experiment("e"), kind=kind, name=name, params=params, tags={"colour": "blue"}
    )


@pytest.mark.parametrize(("outcome", "status"), schema.STATUS_OF_OUTCOME.items())
def test_the_status_agrees_with_the_outcome(store: Store, outcome: schema.Outcome, status: str) -> None:
    log = start(store)
    log.finish(outcome)
    run = store.client.get_run(log.run_id)
    assert (run.data.tags["outcome"], run.info.status) == (outcome, status)


def test_a_run_exists_with_parameters_and_inputs_before_it_ends(store: Store) -> None:
    one = Input(name="bars", digest="abc", source="x", context="bars")
    experiment = store.experiment("e")
    log = RunLog.start(
        store, experiment_id=experiment, kind="trial", name="0001", params={"learning_rate": 1e-3}, tags={}, inputs=[one]
    )
    run = store.client.get_run(log.run_id)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"learning_rate": "0.001"}
    assert run.inputs.dataset_inputs[0].dataset.digest == "abc"


def test_numbers_come_back_as_the_numbers_they_were(store: Store) -> None:
    exact = 0.1 + 0.2
    start(store, learning_rate=exact, n_layers=12, touch="high").finish("complete", metrics={"val_loss": math.pi})
    (row,) = query.trials(store).to_dict("records")
    assert row["learning_rate"] == exact
    assert row["n_layers"] == 12
    assert row["touch"] == "high"
    assert row["val_loss"] == math.pi
    assert row["colour"] == "blue"


@pytest.mark.parametrize("points", [0, 900, 901, 1000, 2500])
def test_more_metrics_than_a_batch_holds_all_arrive(store: Store, points: int) -> None:
    log = start(store)
    for step in range(points):
        log.metric("epoch/val_loss", step / 7, step=step)
    log.finish("complete", tags={f"tag_{number}": "x" for number in range(99)})
    assert query.histories(store, [log.run_id], "epoch/val_loss") == {log.run_id: {step: step / 7 for step in range(points)}}
    assert log.tags()["outcome"] == "complete"


@pytest.mark.parametrize("points", [3, 900, 1000, 1900])
def test_the_outcome_comes_with_the_last_metrics_and_never_before(
    store: Store, monkeypatch: pytest.MonkeyPatch, points: int
) -> None:
    log, real, sent = start(store), SqlAlchemyStore.log_batch, []

    def seen(self: SqlAlchemyStore, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        sent.append((len(metrics), "outcome" in {tag.key for tag in tags}))
        real(self, run_id, metrics, params, tags)

    monkeypatch.setattr(SqlAlchemyStore, "log_batch", seen)
    for step in range(points):
        log.metric("epoch/val_loss", 0.5, step=step)
    log.finish("complete", tags={f"tag_{number}": "x" for number in range(99)})
    assert sum(metrics for metrics, _ in sent) == points
    assert [outcome for _, outcome in sent] == [False] * (len(sent) - 1) + [True]


def test_tables_leave_out_curves_and_other_kinds(store: Store) -> None:
    log = start(store)
    log.metric("epoch/val_loss", 1.0, step=1)
    log.finish("complete", metrics={"val_loss": 0.5})
    start(store, name="2K-h1", kind="sweep").finish("complete")
    table = query.trials(store)
    assert table["name"].tolist() == ["0000"]
    assert "epoch/val_loss" not in table.columns


def test_an_empty_store_gives_an_empty_table(store: Store) -> None:
    assert query.trials(store).empty


def register(store: Store, val_loss: float, study: str = "s") -> registry.RegisteredVersion:
    log = start(store)
    log.artifacts(lambda folder: ((folder / "model").mkdir(), (folder / "model" / "MLmodel").write_text("{}")))
    log.finish("complete")
    return registry.register(store, name="m", run_id=log.run_id, val_loss=val_loss, study=study, description="d")


def test_the_challenger_moves_only_to_a_better_model_of_the_same_study(store: Store) -> None:
    assert register(store, 0.40).is_challenger
    assert not register(store, 0.41).is_challenger
    assert store.client.get_model_version_by_alias("m", "challenger").version in (1, "1")
    assert register(store, 0.39).is_challenger
    assert register(store, 0.50, study="another").is_challenger
    assert str(store.client.get_model_version_by_alias("m", "challenger").version) == "4"
