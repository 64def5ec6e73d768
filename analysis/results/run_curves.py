"""Tuning, learning and calibration curves of each budget's best trial, as tables for the figures."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.results.frontier import Frontier
from analysis.results.tuning_curve import tuning_curve
from research.tracking import query, schema
from research.tracking.store import Store

BINS = 10


def tuning_curves(frontier: Frontier) -> pd.DataFrame:
    """Return columns budget, n, expected_best, standard_error; budgets without random trials are left out."""
    columns = ["n", "expected_best", "standard_error", "budget"]
    entries = [entry for entry in frontier.entries if len(entry.random_losses)]
    curves = [tuning_curve(entry.random_losses).assign(budget=entry.budget) for entry in entries]
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=columns)


def learning_curves(store: Store, frontier: Frontier) -> pd.DataFrame:
    """Return columns budget, epoch, train_loss, val_loss of each budget's best trial.

    One query per loss reads all budgets.
    """
    # A linked run has no curve of its own.
    runs = {entry.budget: query.run_with_artifacts(store, entry.run_id) for entry in frontier.entries}
    names = ("train_loss", "val_loss")
    losses = {name: query.histories(store, list(runs.values()), f"{schema.EPOCH_PREFIX}{name}") for name in names}
    rows = [
        {"budget": budget, "epoch": epoch, "train_loss": losses["train_loss"][run_id].get(epoch, np.nan), "val_loss": val_loss}
        for budget, run_id in runs.items()
        for epoch, val_loss in losses["val_loss"][run_id].items()
    ]
    return pd.DataFrame(rows, columns=["budget", "epoch", *names])


def calibration_curves(store: Store, frontier: Frontier) -> pd.DataFrame:
    """Return ten calibration bins of equal mass for every budget's best trial and every baseline.

    Columns model, predicted, observed, low, high, rows: the mean predicted probability of a bin and its share of
    positive labels with the 95% interval of Wilson 1927. The interval takes days as independent and is therefore too
    narrow where labels overlap.
    """
    best = {entry.budget: entry.run_id for entry in frontier.entries}
    runs = {**best, **frontier.baseline_runs}
    parts = [_calibration(query.predictions(store, run_id)).assign(model=model) for model, run_id in runs.items()]
    return pd.concat(parts, ignore_index=True)


def _calibration(predictions: pd.DataFrame) -> pd.DataFrame:
    # Ranks, so that a model with few distinct probabilities still fills its bins; equal probabilities share one.
    rank = predictions["probability"].rank(method="average") - 0.5
    bin_index = np.minimum((rank * BINS / len(predictions)).astype(int), BINS - 1)
    bins = predictions.groupby(bin_index).agg(
        predicted=("probability", "mean"), observed=("label", "mean"), rows=("label", "size")
    )
    n, z = bins["rows"], 1.96
    centre = (bins["observed"] + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(bins["observed"] * (1 - bins["observed"]) / n + z**2 / (4 * n**2))
    return bins.assign(low=centre - half, high=centre + half).reset_index(drop=True)
