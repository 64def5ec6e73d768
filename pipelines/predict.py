"""`make predict`: the newest probabilities of the registered models."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from pipelines.latest import Age, Served
    from research.tracking.registry import Chosen
    from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Ask registered models about the newest days of their data.

    examples:
      make predict
      make predict MODEL=sp500-threshold-1pct-h1 DATA=etf DAYS=5
      python -m pipelines.predict --days 5 --stale-ok
    """

    model: str = ""
    """Name of one registered model; all of them if not given."""
    data: str = ""
    """As for a sweep; the newest snapshot of the data that each model was trained on if not given."""
    days: int = 1
    """Newest days to show of each instrument."""
    max_age: int = 1
    """Most sessions that may have ended since the last bar; older data are refused."""
    stale_ok: bool = False
    """Show what the model says of older data all the same."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""


def main(options: PredictOptions) -> None:
    """Print one table per model; a model that is refused says why, and the exit code is then 2."""
    from rich.console import Console

    from research.cli import MISTAKE
    from research.spec import InputError, require
    from research.tracking.registry import chosen
    from research.tracking.store import open_store

    require(options.days >= 1, "DAYS", options.days, "give 1 or more.")
    require(options.max_age >= 0, "MAX_AGE", options.max_age, "give 0 or more sessions.")
    store = open_store(options.store, must_exist=True)
    models = chosen(store, options.model)
    console, refused = Console(), 0
    for version in models:
        try:
            show(store, version, options, console)
        except InputError as problem:
            if len(models) == 1:
                raise
            print(f"error: {version.name}: {problem}", file=sys.stderr)
            refused += 1
    if refused:
        raise SystemExit(MISTAKE)


def show(store: Store, version: Chosen, options: PredictOptions, console: Console) -> None:
    """One model's question, standing, data and newest probabilities."""
    from datetime import UTC, datetime

    from pipelines.latest import ages, newest_snapshot, probabilities, require_fresh, served

    model = served(store, version)
    snapshot = newest_snapshot(store, model, options.data)
    found = ages(model, snapshot, datetime.now(UTC))
    if not options.stale_ok:
        require_fresh(found, snapshot, options.max_age)
    said = probabilities(store, model, snapshot, options.days)
    for line in lines(model, snapshot.digest, found, options.max_age):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(table_of(said, model))


def lines(model: Served, digest: str, found: dict[str, Age], most: int) -> list[str]:
    """What must be known before the numbers are read."""
    told = [f"model      {model.version.title}", f"question   {model.target.question}"]
    told += [f"data       snapshot {digest}: {symbol} ends {age.told}" for symbol, age in found.items()]
    skill = "" if model.skill is None else f" (skill {model.skill:+.3f} on its validation days)"
    if any(age.missed > most for age in found.values()):
        told.append("stale      these are answers of then, not of today")
    if model.alarm != "none":
        told.append(f"alarm      {model.alarm}: it says nothing that the base rate does not{skill}")
    elif model.skill is not None:
        told.append(f"standing   skill {model.skill:+.3f} on the validation days that it was chosen on")
    return told


def table_of(said: pd.DataFrame, model: Served) -> Table:
    """One row per instrument and day, beside the share of yes in training."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("symbol", "horizon", "after the close of", "probability", "base rate"):
        table.add_column(heading, justify="left" if heading == "symbol" else "right", no_wrap=True)
    rate = "-" if model.base_rate is None else f"{model.base_rate:.3f}"
    for symbol, date, probability in zip(said["symbol"], said["date"], said["probability"], strict=True):
        table.add_row(symbol, str(model.target.horizon), date, f"{probability:.3f}", rate)
    return table


if __name__ == "__main__":
    from research.cli import run

    run(main, PredictOptions)
