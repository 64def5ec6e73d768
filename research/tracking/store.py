"""The one place where a store is opened: a local SQLite store under `mlruns/`, or a tracking server."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import AcquireReturnProxy, FileLock

from research.errors import InputError, require
from research.tracking import sqlite_reader as sql
from research.tracking.retry import PATIENCE_SECONDS, RetryPolicy, patient_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
UNFINISHED = f"{DATABASE}.unfinished"
"""Name of the database until it is complete."""


@dataclass(frozen=True)
class Store:
    """An open store."""

    root: Path
    """Folder of snapshots and, for a local store, of the database and the artifacts."""
    uri: str
    """Tracking address."""
    patience_seconds: float = PATIENCE_SECONDS
    """Seconds for which a call is retried while the store does not answer."""

    @cached_property
    def client(self) -> MlflowClient:
        """The only MLflow client of the process, with retries; the fluent API has global state and is not used."""
        return patient_client(self.uri, self.patience)

    @cached_property
    def patience(self) -> RetryPolicy:
        """Policy that repeats a call while the store does not answer."""
        # Printed text must not contain the password of a server's address.
        return RetryPolicy(re.sub("^sqlite:///|(?<=//)[^/@]*@", "", self.uri), self.patience_seconds)

    @property
    def database(self) -> Path:
        """The SQLite file of a local store."""
        return self.root / DATABASE

    @property
    def is_local(self) -> bool:
        """Whether the store is a SQLite file under `root`."""
        return self.uri.startswith("sqlite:")

    @property
    def is_read_by_sql(self) -> bool:
        """Whether the tables are a local file with a layout that `sqlite_reader` knows: a reader then needs no client."""
        return self.is_local and self.patience.call(sql.is_readable, self.database)

    @property
    def snapshots(self) -> Path:
        """Folder of the data snapshots."""
        return self.root / "snapshots"

    def experiment(self, name: str) -> str:
        """Return the id of the named experiment, created on first use."""
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        location = (self.root / "artifacts" / name).as_uri() if self.is_local else None
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            # Another process was first, or our own call succeeded and only its answer was lost.
            experiment = self.client.get_experiment_by_name(name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
                raise
            return str(experiment.experiment_id)

    def exclusive_lock(self, name: str) -> FileLock:
        """Return a named lock for the processes of this machine, for use in `with`."""
        folder = self.root / "locks"
        folder.mkdir(exist_ok=True, parents=True)
        return FileLock(folder / f"{name}.lock")

    def local_artifact(self, run_id: str, path: str) -> Path:
        """Return the path of a run's artifact on this machine.

        Local files are found by run id below the store's present folder, since the absolute addresses in the
        database become wrong when the folder is moved.
        """
        if self.is_local:
            experiment = self._experiment_of(run_id)
            artifact = self.root / "artifacts" / (experiment or "") / run_id / "artifacts" / path
            if experiment is None or not artifact.exists():
                raise InputError(f"run {run_id} has no artifact {path} under {self.root}; was the store copied whole?")
            return artifact
        folder = Path(self._downloads.name) / run_id
        folder.mkdir(exist_ok=True)
        return Path(self.client.download_artifacts(run_id, path, str(folder)))

    def _experiment_of(self, run_id: str) -> str | None:
        if self.is_read_by_sql:
            return self.patience.call(sql.experiment_of, self.database, run_id)
        return str(self.client.get_experiment(self.client.get_run(run_id).info.experiment_id).name)

    @cached_property
    def _downloads(self) -> TemporaryDirectory[str]:
        """Artifacts fetched from a server; deleted with the process."""
        return TemporaryDirectory(prefix="tapescale-")


def open_store(root: Path, *, must_exist: bool = False) -> Store:
    """Open the store at `root`, or the server that `MLFLOW_TRACKING_URI` names; create and migrate it once.

    Readers pass `must_exist`: a missing store then raises `InputError` instead of being created.

    Creating the database runs all of MLflow's migrations and is not safe in parallel, so it happens under a
    file lock, and under another name until it is complete: a Ctrl-C in these seconds would leave a database that no
    migration can finish. Write-ahead logging is switched on last and therefore marks a complete set-up.
    """
    root = root.resolve()
    _quiet_mlflow()
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return Store(root=root, uri=_server_address(uri))
    if root.exists() and not root.is_dir():
        raise InputError(f"STORE={root}: this is a file; give a folder.")
    database = root / DATABASE
    if must_exist and not database.exists():
        raise InputError(f"STORE={root.name}: there are no runs yet; start with `make sweep`.")
    store = Store(root=root, uri=f"sqlite:///{database}")
    with _only_opener(root):
        if not database.exists():
            unfinished = root / UNFINISHED
            # An unfinished database of an interrupted start, with its journal.
            for left in root.glob(f"{UNFINISHED}*"):
                left.unlink()
            _migrate(Store(root=root, uri=f"sqlite:///{unfinished}"), unfinished)
            unfinished.replace(database)
        elif not _is_ready(database):
            _migrate(store, database)
    return store


def _migrate(store: Store, database: Path) -> None:
    store.client.search_experiments(max_results=1)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _only_opener(root: Path) -> AcquireReturnProxy[FileLock]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        return FileLock(root / ".store.lock").acquire()
    except OSError as error:
        raise InputError(f"STORE={root}: {error.strerror}; give a folder that can be written to.") from error


def _server_address(uri: str) -> str:
    """Return the address of a server; raise `InputError` for any other, since no database or folder is opened by address."""
    try:
        parts = urlsplit(uri)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    # Printed text must not contain the password of an address.
    shown = re.sub("(?<=//)[^/@]*@", "", uri)
    require(fits, "MLFLOW_TRACKING_URI", shown, "give http://<host>:<port> of an MLflow server, or unset it for a local store.")
    return uri


def _is_ready(database: Path) -> bool:
    if not database.exists():
        return False
    try:
        with closing(sqlite3.connect(database)) as connection:
            return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")
    except sqlite3.DatabaseError as error:
        raise InputError(f"{database} is no MLflow database ({error}); move it away or give another --store.") from error


def _quiet_mlflow() -> None:
    for name in ("alembic", "mlflow.pyfunc", "mlflow.store.model_registry.abstract_store"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It logs the traceback of every failed statement, also of those that are retried.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
