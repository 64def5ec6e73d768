"""`make predict`: the newest probabilities of the registered models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from pipelines.serving.latest_prediction import DataAge, ServedModelInfo
    from research.tracking.registry import SelectedVersion
    from research.tracking.store import Store


WIDTH = 120
"""Of the table where there is no terminal."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Ask registered models about the newest days of their data.

    examples:
      make predict
      make predict MODEL=sp500-threshold-1pct-3K-h1 DATA=etf DAYS=5
      tapescale predict --days 5 --stale-ok
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


@dataclass(frozen=True, kw_only=True)
class ModelPrediction:
    """What one model said."""

    model: ServedModelInfo
    said: pd.DataFrame
    """symbol, date, probability, and low and high where several seeds are inside."""
    lines: list[str]
    """What must be known before the numbers are read."""


def main(options: PredictOptions) -> None:
    """Print what must be known of each model, then one table; a model that is refused says why, the exit code is then 2."""
    from rich.console import Console

    from research.cli.next_steps import print_next
    from research.cli.run import MISTAKE
    from research.errors import InputError, require
    from research.tracking.registry import chosen
    from research.tracking.store import open_store

    require(options.days >= 1, "DAYS", options.days, "give 1 or more.")
    require(options.max_age >= 0, "MAX_AGE", options.max_age, "give 0 or more sessions.")
    store = open_store(options.store, must_exist=True)
    models = chosen(store, options.model)
    console, refused, answers = Console(), 0, []
    for version in models:
        try:
            answers.append(ask(store, version, options))
        except InputError as problem:
            if len(models) == 1:
                raise
            print(f"error: {version.name}: {problem}", file=sys.stderr)
            refused += 1
    console = console if console.is_terminal else Console(width=WIDTH)
    show(answers, console)
    if answers:
        print_next(console, options.store, f"make serve MODEL={answers[0].model.version.name}", "make report")
    if refused:
        raise SystemExit(MISTAKE)


def ask(store: Store, version: SelectedVersion, options: PredictOptions) -> ModelPrediction:
    """One model's newest probabilities; `InputError` where its data are too old or do not fit."""
    from datetime import UTC, datetime

    from pipelines.serving.latest_prediction import ages, newest_snapshot, probabilities, require_fresh, served

    model = served(store, version)
    snapshot = newest_snapshot(store, model, options.data)
    found = ages(model, snapshot, datetime.now(UTC))
    if not options.stale_ok:
        require_fresh(found, snapshot, options.max_age)
    said = probabilities(store, model, snapshot, options.days)
    return ModelPrediction(model=model, said=said, lines=lines(model, snapshot.digest, found, options.max_age))


def lines(model: ServedModelInfo, digest: str, found: dict[str, DataAge], most: int) -> list[str]:
    """What must be known before the numbers are read."""
    told = [f"model      {model.version.title}", f"question   {model.target.question}"]
    told += [f"data       snapshot {digest}: {symbol} ends {age.told}" for symbol, age in found.items()]
    if any(age.missed > most for age in found.values()):
        told.append("stale      these are answers of then, not of today")
    standing = standing_of(model)
    if model.alarm != "none":
        told.append(f"alarm      {model.alarm}: it says nothing that the base rate does not{standing and f' ({standing})'}")
    elif standing:
        told.append(f"standing   {standing}")
    return told


def standing_of(model: ServedModelInfo) -> str:
    """Its skill on test days, or else on the validation days it was chosen on, and whether its gates were passed."""
    if model.test:
        gates = f"; gates {model.version.gates}" if model.version.gates else ""
        found = f"evaluation {model.test.run_id[:12]}" + (model.test.known and f"; {model.test.known}")
        return f"skill {model.test.skill:+.3f} on {model.test.rows:,} test rows ({found}){gates}"
    return "" if model.skill is None else f"skill {model.skill:+.3f} on the validation days that it was chosen on"


def show(answers: Sequence[ModelPrediction], console: Console) -> None:
    """What must be known of each model, then one table of all."""
    for answer in answers:
        for line in answer.lines:
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        console.print()
    if answers:
        console.print(table_of(answers))


def table_of(answers: Sequence[ModelPrediction]) -> Table:
    """One row per model, instrument and day, beside the share of yes in training and what the seeds said."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("symbol", "horizon", "after close of", "probability", "seeds", "base rate", "model"):
        table.add_column(heading, justify="left" if heading in ("symbol", "model") else "right", no_wrap=True)
    for answer in answers:
        model, said = answer.model, answer.said
        rate = "-" if model.base_rate is None else f"{model.base_rate:.3f}"
        for row in said.to_dict("records"):
            seeds = f"{row['low']:.3f} .. {row['high']:.3f}" if row.keys() >= {"low", "high"} else "-"
            asked = [str(row["symbol"]), str(model.target.horizon), str(row["date"])]
            title = f"{model.version.name} v{model.version.version}"
            table.add_row(*asked, f"{row['probability']:.3f}", seeds, rate, title)
    return table
