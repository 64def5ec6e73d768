"""Forecasts beyond the largest budget, and the same forecasts backtested on smaller budgets. Tables for the figures."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.laws.forecasting import FEWEST, forecast
from analysis.results.frontier import Frontier
from analysis.results.scaling_verdict import daily_slope, frontier_points

FARTHEST = 30
"""Largest forecast size, as a multiple of the largest budget: beyond it intervals are too wide to inform."""
STEPS = 16
FEWEST_AT_A_COST = 4
"""Smallest number of trials of nearly equal compute that makes a curve."""


def forecast_band(frontier: Frontier) -> pd.DataFrame:
    """Return n_params, loss, low, high (95%) beyond the largest budget; empty below three budgets."""
    sizes, losses, errors = frontier_points(frontier)
    rows = []
    for size in np.geomspace(1.05, FARTHEST, STEPS) * sizes[-1] if len(sizes) >= FEWEST else ():
        predicted = forecast(sizes, losses, size, error=errors)
        rows.append({"n_params": size, "loss": predicted.loss, "low": predicted.low, "high": predicted.high})
    return pd.DataFrame(rows, columns=["n_params", "loss", "low", "high"])


def rollout(frontier: Frontier) -> pd.DataFrame:
    """Return the forecast of each budget from the smaller ones, compared with its loss.

    Columns budget, n_params, observed, loss, low, high, error (observed / loss - 1).
    """
    sizes, losses, errors = frontier_points(frontier)
    rows = []
    for index in range(FEWEST, len(sizes)):
        smaller_errors = None if errors is None else errors[:index]
        predicted = forecast(sizes[:index], losses[:index], sizes[index], error=smaller_errors)
        rows.append(
            {
                "budget": frontier.entries[index].budget,
                "n_params": sizes[index],
                "observed": losses[index],
                "loss": predicted.loss,
                "low": predicted.low,
                "high": predicted.high,
                "error": losses[index] / predicted.loss - 1,
            }
        )
    return pd.DataFrame(rows, columns=["budget", "n_params", "observed", "loss", "low", "high", "error"])


def residuals(frontier: Frontier) -> pd.DataFrame:
    """Return the residuals of a straight line in the log of the size; empty below three budgets.

    Columns budget, n_params, residual (loss / line - 1), error (standard error of the residual).
    """
    sizes, losses, errors = frontier_points(frontier)
    if len(sizes) < FEWEST:
        return pd.DataFrame(columns=["budget", "n_params", "residual", "error"])
    log_size = np.log10(sizes) - np.log10(sizes).mean()
    line = np.mean(losses) + daily_slope(frontier.entries).mean() * log_size
    return pd.DataFrame(
        {
            "budget": [entry.budget for entry in frontier.entries],
            "n_params": sizes,
            "residual": np.array(losses) / line - 1,
            "error": np.zeros(len(sizes)) if errors is None else np.array(errors) / line,
        }
    )


def isoflop(frontier: Frontier) -> pd.DataFrame:
    """Return trials grouped by their training compute, in steps of half a power of ten.

    Columns flops, n_params, val_loss, budget. Only groups of several trials at several budgets are kept: one budget alone
    shows no trade of compute for size (Hoffmann et al. 2022, approach 2). The number of windows is the same for all
    trials, so more compute is a larger model or more epochs.
    """
    trials = frontier.trials
    if "flops_per_sample" not in trials:
        return pd.DataFrame(columns=["flops", "n_params", "val_loss", "budget"])
    compute = trials["flops_per_sample"] * trials["epochs_run"] * frontier.n_train_windows
    rows = trials[["n_params", "val_loss", "budget"]].assign(flops=10 ** (np.round(2 * np.log10(compute)) / 2)).dropna()
    groups = rows.groupby("flops")
    comparable = (groups["budget"].transform("nunique") > 1) & (groups["budget"].transform("size") >= FEWEST_AT_A_COST)
    return rows[comparable].sort_values(["flops", "n_params"]).reset_index(drop=True)
