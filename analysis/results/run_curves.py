"""Numbers of the figures that belong to single runs: tuning, learning and calibration of each budget's best trial."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.results.frontier import Frontier
from analysis.results.tuning_curve import tuning_curve
from research.tracking import query, schema
from research.tracking.store import Store

BINS = 10


def tuning_curves(frontier: Frontier) -> pd.DataFrame:
    """Columns budget, n, expected_best, standard_error; budgets without random trials are left out."""
    found = [
        tuning_curve(entry.random_losses).assign(budget=entry.budget) for entry in frontier.entries if len(entry.random_losses)
    ]
    return (
        pd.concat(found, ignore_index=True)
        if found
        else pd.DataFrame(columns=["n", "expected_best", "standard_error", "budget"])
    )


def learning_curves(store: Store, frontier: Frontier) -> pd.DataFrame:
    """Columns budget, epoch, train_loss, val_loss of the best trial of each budget, one query per loss for all of them."""
    # A linked run has no curve of its own.
    holders = {entry.budget: query.run_with_artifacts(store, entry.run_id) for entry in frontier.entries}
    names = ("train_loss", "val_loss")
    found = {name: query.histories(store, list(holders.values()), f"{schema.EPOCH_PREFIX}{name}") for name in names}
    rows = [
        {"budget": budget, "epoch": epoch, "train_loss": found["train_loss"][run_id].get(epoch, np.nan), "val_loss": val_loss}
        for budget, run_id in holders.items()
        for epoch, val_loss in found["val_loss"][run_id].items()
    ]
    return pd.DataFrame(rows, columns=["budget", "epoch", *names])


def calibration_curves(store: Store, frontier: Frontier) -> pd.DataFrame:
    """Columns model, said, seen, low, high, rows: ten bins of equal mass of every budget's best trial and baseline.

    `said` is the mean predicted probability of a bin, `seen` the share of positive labels with its 95% Wilson interval
    (Wilson 1927), which takes days as independent and is therefore too narrow where labels overlap.
    """
    best = {entry.budget: entry.run_id for entry in frontier.entries}
    runs = {**best, **frontier.baseline_runs}
    parts = [_reliability(query.predictions(store, run_id)).assign(model=model) for model, run_id in runs.items()]
    return pd.concat(parts, ignore_index=True)


def _reliability(predictions: pd.DataFrame) -> pd.DataFrame:
    # Ranks, so that a model that says few different things still fills its bins; equal probabilities share one.
    rank = predictions["probability"].rank(method="average") - 0.5
    place = np.minimum((rank * BINS / len(predictions)).astype(int), BINS - 1)
    found = predictions.groupby(place).agg(said=("probability", "mean"), seen=("label", "mean"), rows=("label", "size"))
    n, z = found["rows"], 1.96
    centre = (found["seen"] + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(found["seen"] * (1 - found["seen"]) / n + z**2 / (4 * n**2))
    return found.assign(low=centre - reach, high=centre + reach).reset_index(drop=True)
