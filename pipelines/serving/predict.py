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


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Print the probabilities of registered models for the newest days of their data.

    examples:
      make predict
      make predict MODEL=sp500-threshold-1pct-3K-h1 DATA=etf DAYS=5
      tapescale predict --days 5 --stale-ok
    """

    model: str = ""
    """Name of a registered model; all of them if not given."""
    data: str = ""
    """Data, as for a sweep; the newest snapshot of each model's training data if not given."""
    days: int = 1
    """Number of newest days to show for each instrument."""
    max_age: int = 1
    """Largest number of sessions that may have ended since the last bar; older data are refused."""
    stale_ok: bool = False
    """Accept older data, and mark their predictions as stale."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""


@dataclass(frozen=True, kw_only=True)
class ModelPrediction:
    """Newest predictions of one model."""

    model: ServedModelInfo
    table: pd.DataFrame
    """Columns symbol, date, probability, and low and high for an ensemble."""
    lines: list[str]
    """Description of the model and its data, with warnings."""


def main(options: PredictOptions) -> None:
    """Print a description of each model, then one table; exit with code 2 if a model is refused."""
    from research.cli.console import console
    from research.cli.next_steps import print_next
    from research.cli.run import MISTAKE
    from research.errors import InputError, require
    from research.tracking.registry import chosen
    from research.tracking.store import open_store

    require(options.days >= 1, "DAYS", options.days, "give 1 or more.")
    require(options.max_age >= 0, "MAX_AGE", options.max_age, "give 0 or more sessions.")
    store = open_store(options.store, must_exist=True)
    versions = chosen(store, options.model)
    predictions = []
    for version in versions:
        try:
            predictions.append(predict_version(store, version, options))
        except InputError as error:
            if len(versions) == 1:
                raise
            named = str(error).startswith(f"MODEL={version.name}:")
            print(f"error: {error}" if named else f"error: {version.name}: {error}", file=sys.stderr)
    screen = console()
    print_predictions(predictions, screen)
    if predictions:
        print_next(screen, options.store, f"make serve MODEL={predictions[0].model.version.name}", "make report")
    if len(predictions) < len(versions):
        raise SystemExit(MISTAKE)


def predict_version(store: Store, version: SelectedVersion, options: PredictOptions) -> ModelPrediction:
    """Return a model's newest probabilities; raise `InputError` if its data are too old or do not fit."""
    from datetime import UTC, datetime

    from pipelines.serving.latest_prediction import (
        data_ages,
        newest_probabilities,
        newest_snapshot,
        require_fresh,
        served_model_info,
    )

    model = served_model_info(store, version)
    snapshot = newest_snapshot(store, model, options.data)
    ages = data_ages(model, snapshot, datetime.now(UTC))
    if not options.stale_ok:
        require_fresh(ages, snapshot, options.max_age)
    table = newest_probabilities(store, model, snapshot, options.days)
    return ModelPrediction(model=model, table=table, lines=description(model, snapshot.digest, ages, options.max_age))


def description(model: ServedModelInfo, digest: str, ages: dict[str, DataAge], limit: int) -> list[str]:
    """Return the lines about a model and its data; data older than `limit` sessions are marked as stale."""
    lines = [f"model      {model.version.title}", f"question   {model.target.question}"]
    lines += [f"data       snapshot {digest}: {symbol} ends {age.text}" for symbol, age in ages.items()]
    if any(age.missed > limit for age in ages.values()):
        lines.append("stale      predictions for the last available bar, not for today")
    standing = standing_of(model)
    if model.alarm != "none":
        in_brackets = f" ({standing})" if standing else ""
        lines.append(f"alarm      {model.alarm}: it predicts nothing beyond the base rate{in_brackets}")
    elif standing:
        lines.append(f"standing   {standing}")
    return lines


def standing_of(model: ServedModelInfo) -> str:
    """Return the skill on test days with the gates, or on validation days if not tested; empty if there is none."""
    if model.test:
        gates = f"; gates {model.version.gates}" if model.version.gates else ""
        caveat = f"; {model.test.caveat}" if model.test.caveat else ""
        evaluation = f"evaluation {model.test.run_id[:12]}{caveat}"
        return f"skill {model.test.skill:+.3f} on {model.test.rows:,} test rows ({evaluation}){gates}"
    return "" if model.skill is None else f"skill {model.skill:+.3f} on the validation days that it was chosen on"


def print_predictions(predictions: Sequence[ModelPrediction], screen: Console) -> None:
    """Print the description of each model, then one table of all predictions."""
    from research.cli.console import print_line

    for prediction in predictions:
        for line in (*prediction.lines, ""):
            print_line(screen, line, markup=False)
    if predictions:
        screen.print(table_of(predictions))


def table_of(predictions: Sequence[ModelPrediction]) -> Table:
    """Return a table with a row per model, instrument and day, with the range over seeds and the training base rate."""
    from research.cli.console import plain_table

    columns = ("symbol", "horizon", "after close of", "probability", "seeds", "base rate", "model")
    table = plain_table("", columns, left=("symbol", "model"))
    for prediction in predictions:
        model = prediction.model
        rate = "-" if model.base_rate is None else f"{model.base_rate:.3f}"
        title = f"{model.version.name} v{model.version.version}"
        for row in prediction.table.to_dict("records"):
            seeds = f"{row['low']:.3f} .. {row['high']:.3f}" if row.keys() >= {"low", "high"} else "-"
            label = [str(row["symbol"]), str(model.target.horizon), str(row["date"])]
            table.add_row(*label, f"{row['probability']:.3f}", seeds, rate, title)
    return table
