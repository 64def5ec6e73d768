"""`make ui`: MLflow's pages over the store, on this machine only."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

UI_PORT = 5000


@dataclass(frozen=True, kw_only=True)
class UiOptions:
    """Serve MLflow's pages on the loopback address.

    examples:
      make ui
      make ui PORT=5002
      tapescale ui --store /data/mlruns
    """

    port: int = UI_PORT
    """Port on 127.0.0.1."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store."""


def main(options: UiOptions) -> None:
    """Replace this process with the MLflow server; Ctrl-C ends it."""
    from pipelines.serving.ports import HOST, require_free
    from research.errors import InputError
    from research.tracking.store import open_store

    store = open_store(options.store, must_exist=True)
    if not store.is_local:
        where = store.patience.where
        raise InputError(f"MLFLOW_TRACKING_URI={where}: that server has its own pages; open them in a browser.")
    require_free(options.port, "ui", UI_PORT + 2)
    print(f"MLflow on http://{HOST}:{options.port}  (Ctrl-C ends it)", flush=True)
    # One worker and no job runner: the server then takes half a gigabyte instead of two.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    serve = ["server", "--backend-store-uri", store.uri, "--default-artifact-root", (store.root / "artifacts").as_uri()]
    address = ["--host", HOST, "--port", str(options.port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *serve, *address])
