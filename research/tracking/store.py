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
"""The database while it is being made."""


@dataclass(frozen=True)
class Store:
    """An open store."""

    root: Path
    """Folder of snapshots and, for a local store, of the database and the artifacts."""
    uri: str
    """Tracking address."""
    patience_seconds: float = PATIENCE_SECONDS
    """How long a call waits for a store that is away before it fails."""

    @cached_property
    def client(self) -> MlflowClient:
        """The only MLflow client of the process, and a patient one; the fluent API keeps state elsewhere and is not used."""
        return patient_client(self.uri, self.patience)

    @cached_property
    def patience(self) -> RetryPolicy:
        """What repeats a call while the store is away."""
        # What is printed must not hold the password that a server's address may carry.
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
        """Whether the tables are a local file of the layout that `sql` knows: a reader then needs no client."""
        return self.is_local and self.patience.call(sql.is_readable, self.database)

    @property
    def snapshots(self) -> Path:
        """Folder of the data snapshots."""
        return self.root / "snapshots"

    def experiment(self, name: str) -> str:
        """Id of the experiment of that name, created on first use."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (self.root / "artifacts" / name).as_uri() if self.is_local else None
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except MlflowException as problem:
            # Another process was first, or our own call had come through and only its answer was lost.
            found = self.client.get_experiment_by_name(name)
            if problem.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
            return str(found.experiment_id)

    def one_at_a_time(self, name: str) -> FileLock:
        """A lock of this machine's processes around what must not be done twice at the same moment; use it by `with`."""
        folder = self.root / "locks"
        folder.mkdir(exist_ok=True, parents=True)
        return FileLock(folder / f"{name}.lock")

    def local_artifact(self, run_id: str, path: str) -> Path:
        """A file of a run on this machine.

        Local files are found by run id below the store's present folder, since the absolute addresses in the
        database go stale when the folder is moved.
        """
        if self.is_local:
            experiment = self._experiment_of(run_id)
            found = self.root / "artifacts" / (experiment or "") / run_id / "artifacts" / path
            if experiment is None or not found.exists():
                raise InputError(f"run {run_id} has no artifact {path} under {self.root}; was the store copied whole?")
            return found
        folder = Path(self._downloads.name) / run_id
        folder.mkdir(exist_ok=True)
        return Path(self.client.download_artifacts(run_id, path, str(folder)))

    def _experiment_of(self, run_id: str) -> str | None:
        if self.is_read_by_sql:
            return self.patience.call(sql.experiment_of, self.database, run_id)
        return str(self.client.get_experiment(self.client.get_run(run_id).info.experiment_id).name)

    @cached_property
    def _downloads(self) -> TemporaryDirectory[str]:
        """What was fetched from a server; it goes with the process."""
        return TemporaryDirectory(prefix="tapescale-")


def open_store(root: Path, *, must_exist: bool = False) -> Store:
    """Open the store at `root`, or the server that `MLFLOW_TRACKING_URI` names; create and migrate it once.

    Readers pass `must_exist`: a store that is not there is then an `InputError`, not an empty new one.

    Creating the database runs all of MLflow's migrations and is not safe in parallel, so it happens under a
    file lock, and under another name until it is whole: a Ctrl-C in these seconds would leave a database that no
    migration can finish. Write-ahead logging is switched on last and therefore marks a finished set-up.
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
            # One that was cut off, with the journal of what it was about to do.
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
    except OSError as problem:
        raise InputError(f"STORE={root}: {problem.strerror}; give a folder that can be written to.") from problem


def _server_address(uri: str) -> str:
    """The address if a server can have it. Another database or folder would go around all that a store promises."""
    try:
        parts = urlsplit(uri)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    # What is printed must not hold the password that an address may carry.
    shown = re.sub("(?<=//)[^/@]*@", "", uri)
    require(fits, "MLFLOW_TRACKING_URI", shown, "give http://<host>:<port> of an MLflow server, or unset it for a local store.")
    return uri


def _is_ready(database: Path) -> bool:
    if not database.exists():
        return False
    try:
        with closing(sqlite3.connect(database)) as connection:
            return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")
    except sqlite3.DatabaseError as problem:
        raise InputError(f"{database} is no MLflow database ({problem}); move it away or give another --store.") from problem


def _quiet_mlflow() -> None:
    for name in ("alembic", "mlflow.pyfunc", "mlflow.store.model_registry.abstract_store"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It logs the traceback of every failed statement, those that `patience` repeats too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
