from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from research.errors import InputError
from research.tracking import query, schema
from research.tracking import store as opening
from research.tracking.run_writer import RunLog
from research.tracking.store import open_store


def test_a_new_store_is_migrated_and_uses_write_ahead_logging(migrated_store: Path) -> None:
    with sqlite3.connect(migrated_store / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone()[0] == 1


def test_readers_do_not_create_a_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make sweep"):
        open_store(tmp_path / "mlruns", must_exist=True)
    assert not (tmp_path / "mlruns").exists()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is not a database, and long enough to be read as one" * 100)
    with pytest.raises(InputError, match=r"mlflow\.db is no MLflow database"):
        open_store(tmp_path)


class CutOff:
    """MLflow's client, stopped after its first migration or let through to the end."""

    def __init__(self, uri: str, *, whole: bool):
        self.database, self.whole = uri.removeprefix("sqlite:///"), whole

    def search_experiments(self, **_: object) -> None:
        with sqlite3.connect(self.database) as connection:
            connection.execute("CREATE TABLE datasets (n)")
        if not self.whole:
            raise KeyboardInterrupt


def test_ctrl_c_while_a_store_is_made_leaves_none_that_is_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "patient_client", lambda uri, _: CutOff(uri, whole=False))
    with pytest.raises(KeyboardInterrupt):
        open_store(tmp_path)
    with pytest.raises(InputError, match="make sweep"):
        open_store(tmp_path, must_exist=True)
    # The next start begins anew: with what was left, the table would be there already.
    monkeypatch.setattr(opening, "patient_client", lambda uri, _: CutOff(uri, whole=True))
    open_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert not list(tmp_path.glob("*.unfinished*"))


def test_the_server_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    store = open_store(tmp_path / "mlruns")
    assert store.uri == "http://127.0.0.1:9"
    assert not store.is_local


def test_artifacts_are_found_after_the_folder_was_moved(store_root: Path, tmp_path: Path) -> None:
    store = open_store(store_root)
    log = RunLog.start(store, experiment_id=store.experiment("e"), kind="trial", name="0000", params={}, tags={})
    table = pd.DataFrame({"date": ["2012-01-03"], "loss": [0.5]})
    log.artifacts(lambda folder: table.to_parquet(folder / schema.PREDICTIONS_FILE))
    log.finish("complete")
    moved = tmp_path / "elsewhere"
    shutil.move(store_root, moved)
    assert query.predictions(open_store(moved), log.run_id)["loss"].tolist() == [0.5]


@pytest.mark.slow
def test_four_processes_may_create_the_store_at_once(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from research.tracking.store import open_store; open_store(Path({str(tmp_path)!r}))"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait(timeout=200) for process in started] == [0, 0, 0, 0]
