"""`make serve`: MLflow's scoring server for a registered model, on this machine only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SERVE_PORT = 5001


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Serve probabilities for bars over HTTP, on the loopback address.

    examples:
      make serve MODEL=sp500-threshold-1pct-3K-h1
      make serve PORT=5002
      tapescale serve --model sp500-threshold-1pct-3K-h1 --port 5002
    """

    model: str = ""
    """Name of the registered model; optional if there is only one."""
    port: int = SERVE_PORT
    """Port on 127.0.0.1."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""


def main(options: ServeOptions) -> None:
    """Serve until Ctrl-C is pressed."""
    from contextlib import suppress

    from pipelines.serving.ports import HOST, require_free
    from research.errors import InputError
    from research.tracking.registry import chosen, load
    from research.tracking.store import open_store

    require_free(options.port, "serve", SERVE_PORT + 1)
    store = open_store(options.store, must_exist=True)
    versions = chosen(store, options.model)
    if len(versions) > 1:
        raise InputError(f"MODEL=: there are several; give one of {', '.join(version.name for version in versions)}.")
    (version,) = versions
    model = load(store, version)
    import uvicorn

    from pipelines.serving.scoring_app import scoring_app

    app = scoring_app(model)
    print(f"{version.title} on http://{HOST}:{options.port}  (Ctrl-C ends it)", flush=True)
    print(f"ask  {curl(options.port)}", flush=True)
    with suppress(KeyboardInterrupt):
        uvicorn.run(app, host=HOST, port=options.port, log_level="warning")


def curl(port: int) -> str:
    """Return the command that sends a CSV file of bars to the server."""
    return f"curl -H 'Content-Type: text/csv' --data-binary @bars.csv http://127.0.0.1:{port}/invocations"
