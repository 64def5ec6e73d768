"""Beyond the budgets that were tried, and how such looks ahead did among those that were. Tables for the figures."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.laws.forecasting import FEWEST, forecast
from analysis.results.frontier import Frontier
from analysis.results.scaling_verdict import daily_slope, frontier_points

FARTHEST = 30
"""Times the largest size: farther away an interval says nothing but that."""
STEPS = 16
FEWEST_AT_A_COST = 4
"""Trials of nearly the same compute that make a curve."""


def forecast_band(frontier: Frontier) -> pd.DataFrame:
    """Columns n_params, loss, low, high beyond the largest budget, 95%; empty below three budgets."""
    sizes, losses, errors = frontier_points(frontier)
    if len(sizes) < FEWEST:
        return pd.DataFrame(columns=["n_params", "loss", "low", "high"])
    ahead = np.geomspace(1.05, FARTHEST, STEPS) * sizes[-1]
    said = [forecast(sizes, losses, at, error=errors) for at in ahead]
    return pd.DataFrame(
        {
            "n_params": ahead,
            "loss": [one.loss for one in said],
            "low": [one.low for one in said],
            "high": [one.high for one in said],
        }
    )


def rollout(frontier: Frontier) -> pd.DataFrame:
    """Each budget foretold from the smaller ones: budget, n_params, observed, loss, low, high, error (observed / said - 1)."""
    sizes, losses, errors = frontier_points(frontier)
    rows = []
    for place in range(FEWEST, len(sizes)):
        given = None if errors is None else errors[:place]
        said = forecast(sizes[:place], losses[:place], sizes[place], error=given)
        rows.append(
            {
                "budget": frontier.entries[place].budget,
                "n_params": sizes[place],
                "observed": losses[place],
                "loss": said.loss,
                "low": said.low,
                "high": said.high,
                "error": losses[place] / said.loss - 1,
            }
        )
    return pd.DataFrame(rows, columns=["budget", "n_params", "observed", "loss", "low", "high", "error"])


def residuals(frontier: Frontier) -> pd.DataFrame:
    """Columns budget, n_params, residual (loss over a straight line in log size, minus 1), error; empty below three budgets."""
    sizes, losses, errors = frontier_points(frontier)
    if len(sizes) < FEWEST:
        return pd.DataFrame(columns=["budget", "n_params", "residual", "error"])
    size = np.log10(sizes) - np.log10(sizes).mean()
    line = np.mean(losses) + daily_slope(frontier.entries).mean() * size
    return pd.DataFrame(
        {
            "budget": [entry.budget for entry in frontier.entries],
            "n_params": sizes,
            "residual": np.array(losses) / line - 1,
            "error": np.zeros(len(sizes)) if errors is None else np.array(errors) / line,
        }
    )


def isoflop(frontier: Frontier) -> pd.DataFrame:
    """Columns flops, n_params, val_loss, budget: trials grouped by what their training took, a power of ten and its half.

    Only groups of several trials at several budgets: at one budget alone nothing is traded for size (Hoffmann et al. 2022,
    approach 2). Windows are the same for all, so that more compute is a larger model or more epochs.
    """
    trials = frontier.trials
    if "flops_per_sample" not in trials:
        return pd.DataFrame(columns=["flops", "n_params", "val_loss", "budget"])
    spent = trials["flops_per_sample"] * trials["epochs_run"] * frontier.n_train_windows
    found = trials[["n_params", "val_loss", "budget"]].assign(flops=10 ** (np.round(2 * np.log10(spent)) / 2)).dropna()
    groups = found.groupby("flops")
    many = (groups["budget"].transform("nunique") > 1) & (groups["budget"].transform("size") >= FEWEST_AT_A_COST)
    return found[many].sort_values(["flops", "n_params"]).reset_index(drop=True)
