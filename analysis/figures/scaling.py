"""Figures of the frontier, its forecasts and its residuals: drawing only."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, PercentFormatter

from analysis.figures.style import ACCENT, INK, MUTED, budget_style, legend_right, loss_against_size, one_panel
from analysis.results.frontier import Frontier

NARROWEST = 5
"""Smallest ratio of an axis's ends: a range this wide has two of the ticks 1, 2, 5, 10."""


def frontier_figure(frontier: Frontier, ahead: pd.DataFrame) -> Figure:
    """Draw every trial, the best of each budget, the baselines and the forecast of the next budgets.

    `ahead` is the table of `analysis.results.extrapolation.forecast_band`.
    """
    figure = loss_against_size(frontier, named=not len(ahead))
    axes = figure.axes[0]
    if len(ahead):
        axes.fill_between(
            ahead["n_params"], ahead["low"], ahead["high"], color=MUTED, alpha=0.35, lw=0, label="95%, next budgets"
        )
        axes.plot(ahead["n_params"], ahead["loss"], color=ACCENT, linestyle=":", label="forecast")
        axes.set_xlim(right=float(ahead["n_params"].iloc[-1]))
        legend_right(axes)
    return figure


def rollout(steps: pd.DataFrame, title: str) -> Figure:
    """Draw each budget's loss and its forecast from the smaller ones."""
    figure, axes = one_panel(f"{title}: each budget forecast from the smaller ones", "counted parameters", "val_loss (nats)")
    error = np.abs(steps[["low", "high"]].to_numpy().T - steps["loss"].to_numpy())
    axes.errorbar(steps["n_params"], steps["loss"], yerr=error, fmt="s", color=MUTED, capsize=3, label="forecast, 95%")
    axes.plot(steps["n_params"], steps["observed"], "o", color=INK, markersize=4, label="observed")
    _log_sizes(axes)
    axes.legend(frameon=False, fontsize=8)
    return figure


def residuals(points: pd.DataFrame, title: str) -> Figure:
    """Draw the residuals of a straight line in the logarithm of the size, with 95% intervals."""
    figure, axes = one_panel(f"{title}: distance from a straight line", "counted parameters", "loss over the line - 1")
    axes.axhline(0, color=INK, linewidth=0.8)
    error = 1.96 * points["error"]
    axes.errorbar(points["n_params"], points["residual"], yerr=error, fmt="o", color=ACCENT, capsize=3, markersize=4)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _log_sizes(axes)
    return figure


def isoflop(trials: pd.DataFrame, title: str) -> Figure:
    """Draw loss against size at equal compute, with a line through the lowest loss of each budget."""
    figure, axes = one_panel(f"{title}: equal compute", "counted parameters", "val_loss (nats)")
    for index, (flops, group) in enumerate(trials.groupby("flops")):
        style = budget_style(index)
        axes.scatter(group["n_params"], group["val_loss"], s=8, color=style["color"], alpha=0.35, linewidths=0)
        lowest = group.loc[group.groupby("budget")["val_loss"].idxmin()].sort_values("n_params")
        axes.plot(lowest["n_params"], lowest["val_loss"], label=f"$10^{{{np.log10(float(str(flops))):.3g}}}$ FLOP", **style)
    axes.set_ylim(top=float(trials["val_loss"].quantile(0.9)))
    _log_sizes(axes)
    legend_right(axes)
    return figure


def _log_sizes(axes: Axes) -> None:
    """Set a logarithmic axis of sizes, wide enough for two tick labels: one label is no scale."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    factor = max(1.0, np.sqrt(NARROWEST * low / high))
    axes.set_xlim(low / factor, high * factor)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
