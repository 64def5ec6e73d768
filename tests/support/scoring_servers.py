"""A scoring server in tests: started as a process of its own, waited for, asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pandas as pd

from research.tracking.store import Store


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_answers(address: str, process: subprocess.Popen[str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()[1]
        with suppress(OSError), urlopen(f"{address}/ping", timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError(address)


def ask(address: str, body: bytes, kind: str = "application/json", host: str | None = None) -> tuple[int, dict]:
    headers = {"Content-Type": kind, **({"Host": host} if host else {})}
    try:
        with urlopen(Request(f"{address}/invocations", body, headers), timeout=30) as answer:
            return answer.status, json.load(answer)
    except HTTPError as refusal:
        text = refusal.read().decode()
        return refusal.code, json.loads(text) if text.startswith("{") else {"message": text}


def as_json(table: pd.DataFrame) -> bytes:
    """Values exactly as they are, so that a boolean stays one and NaN is null."""
    rows = [[None if one != one else one for one in row] for row in table.astype(object).to_numpy().tolist()]
    return json.dumps({"dataframe_split": {"columns": list(table.columns), "data": rows}}).encode()


@contextmanager
def mlflow_serving(store: Store, model_uri: str, *, threads: int = 1) -> Iterator[str]:
    """`mlflow models serve`, as docs/serving.md says to start it; its address."""
    port = free_port()
    programs = Path(sys.executable).parent
    command = [str(programs / "mlflow"), "models", "serve", "--model-uri", model_uri]
    settings = {
        "MLFLOW_TRACKING_URI": store.uri,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": str(threads),
    }
    process = subprocess.Popen(
        [*command, "--env-manager", "local", "--port", str(port)],
        env={**os.environ, **settings},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        # It starts its server as a process of its own.
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
