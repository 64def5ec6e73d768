"""Comparison of a model served over HTTP with the stored predictions of its evaluation."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd

from pipelines.serving.latest_prediction import newest_snapshot, served_model_info
from pipelines.serving.packaging import as_table
from research.errors import InputError
from research.tracking import query, schema
from research.tracking.registry import chosen
from research.tracking.store import Store, open_store

CLOSE = 1e-6
PATIENCE_SECONDS = 120


def agreement(root: Path, alive: Callable[[], None], *, model: str, port: int) -> str:
    """Send all bars to the server and return a sentence with its prediction for the newest day.

    `alive` raises an error if the server has ended. Raise `InputError` if the server does not respond, or if its
    probabilities differ from those of the evaluation of the champion's final run.
    """
    store = open_store(root, must_exist=True)
    (version,) = chosen(store, model)
    model_served = served_model_info(store, version)
    snapshot = newest_snapshot(store, model_served)
    bars = as_table({symbol: snapshot.of(symbol) for symbol in model_served.symbols})
    address = f"http://127.0.0.1:{port}"
    wait_for(address, alive)
    answer = _request(address, bars)
    stored = _stored(store, version.run_id)
    days = stored.index.intersection(answer.index)
    apart = float(np.abs(answer[days] - stored[days]).max())
    if len(days) != len(stored) or not apart <= CLOSE:
        raise InputError(
            f"tour: served and evaluated probabilities of {len(days)} days differ by {apart:.1e}; see docs/serving.md."
        )
    newest = answer.index[-1]
    return (
        f"\nsent {len(bars):,} raw bars; after the close of {newest}: probability {answer[newest]:.3f}\n"
        f"served and evaluated probabilities agree to {CLOSE:.0e} on all {len(days)} test days"
    )


def wait_for(address: str, alive: Callable[[], None]) -> None:
    """Wait until the server responds; `alive` raises an error if it has ended."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            with urlopen(f"{address}/ping", timeout=1):
                return
        except (URLError, TimeoutError):
            alive()
            time.sleep(0.2)
    raise InputError(f"tour: nothing answers at {address} after {PATIENCE_SECONDS} s; its message is above.")


def _request(address: str, bars: pd.DataFrame) -> pd.Series[float]:
    file = io.BytesIO()
    bars.to_csv(file, index=False)
    with urlopen(Request(f"{address}/invocations", file.getvalue(), {"Content-Type": "text/csv"}), timeout=60) as answer:
        table = pd.DataFrame(json.load(answer)["predictions"])
    return table.set_index("date")["probability"]


def _stored(store: Store, final_run: str) -> pd.Series[float]:
    """Return the stored probabilities of the test days, by day."""
    experiments = list(query.experiments(store))
    runs = query.runs_of_kind(store, experiments, ("evaluation",))
    evaluations = [run for run in runs if run.tags[schema.FINAL_RUN] == final_run]
    table = pd.read_parquet(store.local_artifact(evaluations[0].run_id, schema.TEST_PREDICTIONS_FILE))
    return table.set_index(table["date"].dt.strftime("%Y-%m-%d"))["probability"]
