from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException, RestException
from requests import HTTPError, Response
from sqlalchemy import event
from sqlalchemy.engine import Engine

from research.tracking import query, schema
from research.tracking import retry as patience
from research.tracking.retry import RetryPolicy, StoreUnavailable, transient_reason
from research.tracking.run_writer import Input, RunLog
from research.tracking.store import Store, open_store


@pytest.fixture
def store(store_root: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.05)
    return open_store(store_root)


@pytest.fixture
def impatient_mlflow() -> Iterator[None]:
    """MLflow's own wait for a lock, cut from 20 s to 50 ms."""

    def shorten(_c: object, _u: object, statement: str, parameters: Any, _x: object, _m: object) -> tuple[str, Any]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 50"), parameters

    event.listen(Engine, "before_cursor_execute", shorten, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", shorten)


def start(store: Store) -> RunLog:
    used = Input(name="bars", digest="abc", source="x", context="bars")
    return RunLog.start(
        store, experiment_id=store.experiment("e"), kind="trial", name="0000", params={"n": 1}, tags={}, inputs=[used]
    )


def answered(code: int) -> HTTPError:
    response = Response()
    response.status_code = code
    return HTTPError(response=response)


def wrapped(cause: Exception) -> MlflowException:
    try:
        raise MlflowException(f"API request failed with exception {type(cause).__name__}") from cause
    except MlflowException as problem:
        return problem


@pytest.mark.parametrize(
    "problem",
    [
        sqlite3.OperationalError("database is locked"),
        MlflowException("(sqlite3.OperationalError) database or disk is full", error_code=14),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        wrapped(ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
        wrapped(ConnectionResetError(errno.ECONNRESET, "reset")),
        RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "restarting"}),
        RestException({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}),
        MlflowException("API request to endpoint /x failed with error code 502 != 200. Response body: 'nginx'"),
        answered(504),
    ],
)
def test_what_may_pass_is_waited_for(problem: Exception) -> None:
    assert transient_reason(problem)


@pytest.mark.parametrize(
    "problem",
    [
        sqlite3.OperationalError("no such table: runs"),
        OSError(errno.EACCES, "Permission denied"),
        RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "value 'timed out' was changed"}),
        RestException({"error_code": "INTERNAL_ERROR", "message": "a bug"}),
        answered(404),
        KeyError("outcome"),
        StoreUnavailable("no answer (Connection refused)"),
    ],
)
def test_what_stays_wrong_is_not_waited_for(problem: Exception) -> None:
    assert transient_reason(problem) is None


@pytest.mark.usefixtures("impatient_mlflow")
def test_a_locked_database_delays_a_finish_and_loses_nothing(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    log = start(store)
    holder = sqlite3.connect(store.database, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    threading.Timer(1.0, lambda: holder.execute("COMMIT")).start()
    log.metric("epoch/val_loss", 0.7, step=1)
    log.finish("complete", metrics={"val_loss": 0.5})
    holder.close()
    run = store.client.get_run(log.run_id)
    assert (run.info.status, run.data.tags["outcome"], run.data.metrics["val_loss"]) == ("FINISHED", "complete", 0.5)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "the store does not answer (database is locked); trying again for up to 5 minutes.",
        "the store answers again.",
    ]


def test_a_full_disk_delays_a_finish_and_loses_nothing(store: Store) -> None:
    """A limit on the size of files stops SQLite in the middle of a write, as a full disk does."""
    code = f"""
import resource, threading
from pathlib import Path
from research.tracking.run_writer import RunLog
from research.tracking.store import open_store
store = open_store(Path({str(store.root)!r}))
log = RunLog.start(store, experiment_id=store.experiment("e"), kind="trial", name="0000", params={{"n": 1}}, tags={{}})
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
threading.Timer(1.0, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))).start()
log.finish("complete", metrics={{"val_loss": 0.5}})
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert [line.split(" (")[0] for line in ran.stderr.splitlines()] == [
        "the store does not answer",
        "the store answers again.",
    ]
    (row,) = query.trials(store).to_dict("records")
    assert (row["status"], row["outcome"], row["val_loss"], row["n"]) == ("FINISHED", "complete", 0.5, 1)


def losing_first_answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every call comes through, but the first answer of each method is lost."""
    lost: list[str] = []

    def lossy(method: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            answer = real(*args, **kwargs)
            if method not in lost:
                lost.append(method)
                raise ConnectionResetError(errno.ECONNRESET, "reset")
            return answer

        return call

    for method in ("create_experiment", "create_run", "log_batch", "log_inputs", "set_tag", "log_artifacts", "set_terminated"):
        monkeypatch.setattr(mlflow.MlflowClient, method, lossy(method, getattr(mlflow.MlflowClient, method)))
    return lost


def test_lost_answers_leave_one_whole_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = losing_first_answers(monkeypatch)
    log = start(store)
    for step in range(3):
        log.metric("epoch/val_loss", 0.5, step=step)
    log.tag("colour", "blue")
    log.artifacts(lambda folder: (folder / "a.txt").write_text("a"))
    log.finish("complete", metrics={"val_loss": 0.5})
    assert len(lost) == 7
    (row,) = query.trials(store).to_dict("records")
    assert (row["run_id"], row["status"], row["outcome"], row["colour"], row["n"]) == (
        log.run_id, "FINISHED", "complete", "blue", 1,
    )  # fmt: skip
    assert len(store.client.get_metric_history(log.run_id, "epoch/val_loss")) == 3
    assert len(store.client.get_run(log.run_id).inputs.dataset_inputs) == 1
    assert store.local_artifact(log.run_id, "a.txt").read_text() == "a"


def test_a_run_that_was_not_created_is_created_by_the_second_try(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = mlflow.MlflowClient.create_run, []

    def refused_once(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        return real(*args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", refused_once)
    log = start(store)
    assert query.trials(store)["run_id"].tolist() == [log.run_id]
    assert [name for name in query.trials(store).columns if "reation" in name] == []


def test_a_server_that_stays_away_is_named_after_the_patience(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    away = Store(root=tmp_path, uri="http://me:secret@127.0.0.1:9", patience_seconds=0.5)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"STORE=http://127\.0\.0\.1:9: no answer for 0\.5 seconds .* nothing finished"):
        away.experiment("e")
    assert time.monotonic() - began >= 0.5
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_wrong_call_is_refused_at_once(store: Store) -> None:
    log = start(store)
    tried: list[int] = []
    with pytest.raises(MlflowException, match="already logged"):
        store.patience.call(lambda: (tried.append(1), store.client.log_param(log.run_id, "n", "2")))
    assert tried == [1]


def test_a_folder_on_a_full_disk_is_filled_when_there_is_room(store: Store) -> None:
    log, tried = start(store), []

    def write(folder: Path) -> None:
        tried.append(1)
        if len(tried) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        (folder / "a.txt").write_text("a")

    log.artifacts(write)
    assert store.local_artifact(log.run_id, "a.txt").exists()


def test_the_wait_ends_with_the_patience_and_not_after_the_next_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    clock = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        patience.time, "sleep", lambda seconds: (slept.append(seconds), clock.__setitem__(0, clock[0] + seconds))
    )

    def fail() -> None:
        raise sqlite3.OperationalError("database is locked")

    with pytest.raises(StoreUnavailable):
        RetryPolicy("x", 300.0).call(fail)
    assert sum(slept) == pytest.approx(300.0)
    assert max(slept) <= patience.LONGEST_PAUSE


def test_a_run_keeps_its_kind_beside_the_creation_token(store: Store) -> None:
    tags = start(store).tags()
    assert tags[schema.KIND] == "trial"
    assert len(tags[schema.CREATION]) == 32
