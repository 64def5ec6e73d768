"""A real tracking server on the loopback address, and sweeps that log to it or run on a real local Ray."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import pytest

from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store

STARTS_WITHIN = 60.0


@dataclass(kw_only=True)
class Server:
    """`mlflow server` over a migrated SQLite file; clients reach the artifacts through it alone."""

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        backend = ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        artifacts = ["--artifacts-destination", str(self.folder / "artifacts")]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        settings = {"PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *backend, *artifacts, *address],
                env={**os.environ, **settings},
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, STARTS_WITHIN)

    def kill(self) -> None:
        """End it as a crash would: the program that starts it and the worker that serves."""
        import psutil

        assert self._process is not None
        for process in [*psutil.Process(self._process.pid).children(recursive=True), self._process]:
            process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        with suppress(OSError), urlopen(f"{self.uri}/health", timeout=1):
            return True
        return False


@pytest.fixture(scope="module")
def server(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(migrated_store / "mlflow.db", folder)
    running = Server(folder=folder, port=free_port())
    running.start()
    yield running
    running.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_driver(root: Path, *flags: str, uri: str = "") -> subprocess.Popen[str]:
    """A sweep of tiny models in a process, and a process group, of its own."""
    tiny = ["--budget", "2K", "--device", "cpu", "--threads", "1", "--store", str(root)]
    return subprocess.Popen(
        [sys.executable, "-m", "tapescale", "sweep", *tiny, *flags],
        env={**os.environ, "MLFLOW_TRACKING_URI": uri},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a store says about its only sweep with a given title."""

    parent: RunRecord
    children: list[RunRecord]

    @property
    def trials(self) -> list[RunRecord]:
        return [run for run in self.children if run.kind == "trial"]

    def numbers(self, outcome: str) -> list[int]:
        """Numbers of the trials that ended so, in order."""
        return sorted(int(run.params["number"]) for run in self.trials if run.outcome == outcome)

    def require_true(self) -> None:
        """Nothing is open, and every status says what the outcome says."""
        for run in [self.parent, *self.children]:
            assert run.outcome is not None, f"{run.name} has no outcome"
            assert run.status == schema.STATUS_OF_OUTCOME[run.outcome], run.name


def read(store: Store, seed: int = 0) -> Record:
    """The sweep of that seed."""
    found = store.client.get_experiment_by_name("sp500-threshold-1pct")
    sweeps = query.runs_with_tag(store, found.experiment_id, schema.KIND, "sweep", kinds=("sweep",))
    (parent,) = [run for run in sweeps if run.params["seed"] == seed]
    return Record(parent=parent, children=query.children(store, found.experiment_id, parent.run_id))


def training(store: Store, seed: int = 0) -> list[RunRecord]:
    """Trials of the sweep that are under way, none before it has begun."""
    try:
        return [run for run in read(store, seed).trials if run.status == "RUNNING" and schema.WORKER in run.tags]
    except (AttributeError, ValueError):
        return []


def wait_for(condition: Callable[[], object], seconds: float = 90.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, f"nothing came of it in {seconds:g} seconds"
        time.sleep(0.2)
