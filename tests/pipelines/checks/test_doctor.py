"""`make doctor` reports problems of a machine and a store, and with FIX=1 repairs what is safe to repair."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pipelines.checks import machine_checks as machine
from pipelines.checks.doctor import DoctorOptions, findings, main
from pipelines.checks.machine_checks import CheckResult
from pipelines.checks.store_checks import database_findings, freshness, server, snapshots, store_findings
from pipelines.data.load_task import ingest
from research.data.data_sets import DataSet, Version, write_data_set
from research.data.sources import Request
from research.tracking import schema
from research.tracking.process_identity import ProcessId
from research.tracking.registry import register
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store


def found(root: Path, check: str) -> CheckResult:
    return next(one for one in store_findings(root) if one.check == check)


@pytest.fixture
def store(store_root: Path) -> Store:
    return open_store(store_root)


def finished_run(store: Store) -> str:
    """A finished trial with an artifact, and a registered model made from it."""
    experiment = store.experiment("sp500-threshold-1pct")
    log = RunLog.start(store, experiment_id=experiment, kind="trial", name="0001", params={}, tags={})
    log.artifacts(lambda folder: (folder / "predictions.txt").write_text("0.5"))
    log.finish("complete")
    register(store, name="a-model", run_id=log.run_id, val_loss=0.4, study="s", description="")
    return log.run_id


def test_an_empty_clone_is_in_order_and_stays_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(DoctorOptions(store=tmp_path / "mlruns"))
    output = capsys.readouterr().out
    assert output.splitlines()[-1].startswith("problems: 0")
    (store,) = store_findings(tmp_path / "mlruns")
    assert store.found.endswith("no runs yet; make sweep creates it")
    assert list(tmp_path.iterdir()) == []


def test_a_moved_store_finds_its_artifacts_again(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = finished_run(store)
    root = tmp_path / "else where" / "mlruns"
    root.parent.mkdir()
    shutil.move(store.root, root)
    moved = open_store(root)
    assert moved.client.list_artifacts(run_id) == []
    with pytest.raises(SystemExit) as ended:
        main(DoctorOptions(store=root))
    assert ended.value.code == 1
    assert list(root.glob("mlflow.db.before-*")) == []
    capsys.readouterr()

    main(DoctorOptions(store=root, fix=True))

    output = capsys.readouterr().out
    assert "fixed  artifacts" in output
    assert "1 runs.artifact_uri" in output
    assert [one.path for one in open_store(root).client.list_artifacts(run_id)] == ["predictions.txt"]
    version = open_store(root).client.get_model_version("a-model", "1")
    assert version.source.startswith(root.as_uri())
    (backup,) = root.glob("mlflow.db.before-*")
    with closing(sqlite3.connect(backup)) as before:
        ((address,),) = before.execute("SELECT artifact_uri FROM runs").fetchall()
    assert address.startswith(store.root.as_uri())
    assert found(root, "artifacts").verdict == "ok"


def test_a_store_in_use_is_not_relocated(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished_run(store)
    root = Path(shutil.move(store.root, tmp_path / "moved"))
    holding = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM runs'); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(root / "mlflow.db")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(SystemExit):
            main(DoctorOptions(store=root, fix=True))
        other.communicate("\n")
    output = capsys.readouterr().out
    assert f"process {other.pid}" in output
    assert found(root, "artifacts").verdict == "problem"


def test_a_database_copied_alone_keeps_the_addresses_of_its_artifacts(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = finished_run(store)
    root = tmp_path / "alone"
    root.mkdir()
    with closing(sqlite3.connect(store.database)) as whole, closing(sqlite3.connect(root / "mlflow.db")) as copy:
        whole.backup(copy)
        copy.execute("PRAGMA journal_mode=WAL")
    with pytest.raises(SystemExit):
        main(DoctorOptions(store=root, fix=True))
    output = capsys.readouterr().out
    assert "were not copied" in output
    assert "fixed  artifacts" not in output
    assert [one.path for one in open_store(root).client.list_artifacts(run_id)] == ["predictions.txt"]


def test_runs_that_nobody_drives_are_closed_and_others_left_alone(store: Store) -> None:
    experiment = store.experiment("sp500-threshold-1pct")
    gone = json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1, "started": 1.0, "token": "", "seen": 1.0})
    alive = ProcessId.mine().text(token="", seen=2e10)
    runs = {}
    for name, owner in {"gone": gone, "alive": alive}.items():
        sweep = RunLog.start(store, experiment_id=experiment, kind="sweep", name=name, params={}, tags={schema.OWNER: owner})
        trial = RunLog.start(
            store, experiment_id=experiment, kind="trial", name=name, params={}, tags={}, parent_id=sweep.run_id
        )
        runs[name] = (sweep, trial)
    one = found(store.root, "open runs")
    assert one.found.startswith("2 without a process: ")
    assert one.repair is not None
    one.repair()
    assert [log.tags().get(schema.OUTCOME) for log in runs["gone"]] == ["interrupted", "interrupted"]
    assert [log.tags().get(schema.OUTCOME) for log in runs["alive"]] == [None, None]
    assert found(store.root, "open runs").found == "2 running"


def test_checkpoints_of_trials_that_ended_are_removed_and_others_kept(store: Store) -> None:
    experiment = store.experiment("x-y")
    for name, outcome in [("ended", "interrupted"), ("ended", "complete"), ("waits", "crashed"), ("waits", "interrupted")]:
        tags = {schema.TRIAL_FINGERPRINT: name}
        log = RunLog.start(store, experiment_id=experiment, kind="trial", name=name, params={}, tags=tags)
        log.finish(outcome)  # type: ignore[arg-type]
    folder = store.root / "checkpoints"
    folder.mkdir()
    for name in ("ended", "waits", "unknown", "final-1"):
        (folder / f"{name}.safetensors").write_bytes(b"state")
    one = found(store.root, "checkpoints")
    assert one.found.startswith("1 of trials that have ended, 1 of trials that no run names")
    assert one.repair is not None
    one.repair()
    assert sorted(file.stem for file in folder.iterdir()) == ["final-1", "unknown", "waits"]


def test_the_journal_is_reported_and_repaired(store_root: Path) -> None:
    with closing(sqlite3.connect(store_root / "mlflow.db")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    one = found(store_root, "journal")
    assert one.verdict == "warning"
    assert one.repair is not None
    one.repair()
    assert found(store_root, "journal").verdict == "ok"


def test_a_database_that_is_locked_is_left(
    store_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("research.tracking.maintenance.BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(store_root / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("BEGIN IMMEDIATE")
        main(DoctorOptions(store=store_root, fix=True))
    assert "left   journal: database is locked" in capsys.readouterr().out


def test_a_database_that_is_none_and_a_store_that_is_a_file(store_root: Path, tmp_path: Path) -> None:
    for content in (b"no database" * 100, b""):
        (store_root / "mlflow.db").write_bytes(content)
        (one,) = database_findings(store_root)
        assert (one.verdict, one.check) == ("problem", "store")
    (tmp_path / "file").write_text("")
    (one,) = store_findings(tmp_path / "file")
    assert "is a file" in one.found


def test_tables_of_another_mlflow_are_reported(store_root: Path) -> None:
    with closing(sqlite3.connect(store_root / "mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'old'")
        connection.commit()
    one = found(store_root, "MLflow tables")
    assert one.verdict == "problem"
    assert "db upgrade" in one.fix


def test_a_damaged_snapshot_and_old_data_are_reported(store: Store) -> None:
    digest = ingest("bundled", store).digest
    root = store.snapshots
    (whole,) = snapshots(root)
    assert whole.verdict == "ok"
    data_set = DataSet(name="sp", request=Request(source="yahoo"), history=(Version(digest=digest, at="2019-01-01"),))
    write_data_set(data_set, root)
    (age,) = freshness(root, datetime(2019, 1, 4, 23, tzinfo=UTC))
    assert (age.verdict, age.fix) == ("warning", f"make data DATA=sp STORE={store.root}")
    assert "2018-12-31" in age.found
    assert "3 sessions missed" in age.found
    content = bytearray((root / digest / "bars.parquet").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (root / digest / "bars.parquet").write_bytes(content)
    (damaged,) = snapshots(root)
    assert damaged.verdict == "problem"
    assert digest in damaged.fix


def test_packages_that_are_not_as_pinned_are_named() -> None:
    assert machine.packages("numpy==0.1\nrich==0.2").found.startswith("not as pinned: numpy ")
    assert machine.packages().verdict != "problem"


def test_too_little_memory_and_disk_are_reported(tmp_path: Path) -> None:
    assert [machine.memory(free).verdict for free in (10**6, 150 * 10**6, 10**12)] == ["problem", "warning", "ok"]
    assert [machine.disk(tmp_path, free).verdict for free in (10**6, 10**8, 10**12)] == ["problem", "warning", "ok"]


def test_a_port_in_use_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr("pipelines.serving.ui.UI_PORT", taken.getsockname()[1])
        assert machine.ports()[0].verdict == "warning"


class Version317(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"3.17.0" if self.path == "/version" else b"")

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        pass


@contextmanager
def serving() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Version317) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://me:secret@127.0.0.1:{http.server_port}"
        http.shutdown()


def test_a_tracking_server_is_checked_without_printing_its_password() -> None:
    with serving() as uri:
        there = server(uri)
    assert (there.verdict, "secret" in there.found) == ("ok", False)
    assert there.found.endswith("MLflow 3.17.0")
    assert server(uri).verdict == "problem"
    assert "not a server address" in server("banana").found


def test_a_failing_check_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> CheckResult:
        raise OSError("no such thing")

    monkeypatch.setattr(machine, "device", fails)
    output = list(findings(tmp_path / "none"))
    assert "failed: no such thing" in [one.found for one in output]
    assert output[-1].check == "disk"
