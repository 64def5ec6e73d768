"""Figures of what lies beyond the budgets: drawing only."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, PercentFormatter

from analysis.figures.style import ACCENT, INK, MUTED, budget_style, legend_right, loss_against_size, one_panel
from analysis.results.frontier import Frontier

NARROWEST = 5
"""From end to end of an axis: 1, 2, 5, 10 of the ticks are never further apart than two in this range."""


def frontier_figure(frontier: Frontier, ahead: pd.DataFrame) -> Figure:
    """Every trial, the best of each budget, the baselines, and what the next budgets are expected to give."""
    figure = loss_against_size(frontier, named=not len(ahead))
    axes = figure.axes[0]
    if len(ahead):
        axes.fill_between(
            ahead["n_params"], ahead["low"], ahead["high"], color=MUTED, alpha=0.35, lw=0, label="95%, next budgets"
        )
        axes.plot(ahead["n_params"], ahead["loss"], color=ACCENT, linestyle=":", label="expected of them")
        axes.set_xlim(right=float(ahead["n_params"].iloc[-1]))
        legend_right(axes)
    return figure


def rollout(steps: pd.DataFrame, title: str) -> Figure:
    """Each budget's loss beside what the smaller ones had foretold."""
    figure, axes = one_panel(f"{title}: each budget foretold by the smaller ones", "counted parameters", "val_loss (nats)")
    reach = np.abs(steps[["low", "high"]].to_numpy().T - steps["loss"].to_numpy())
    axes.errorbar(steps["n_params"], steps["loss"], yerr=reach, fmt="s", color=MUTED, capsize=3, label="foretold, 95%")
    axes.plot(steps["n_params"], steps["observed"], "o", color=INK, markersize=4, label="found")
    _log_sizes(axes)
    axes.legend(frameon=False, fontsize=8)
    return figure


def residuals(left: pd.DataFrame, title: str) -> Figure:
    """What a straight line in the logarithm of the size leaves."""
    figure, axes = one_panel(f"{title}: distance from a straight line", "counted parameters", "loss over the line - 1")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.errorbar(left["n_params"], left["residual"], yerr=1.96 * left["error"], fmt="o", color=ACCENT, capsize=3, markersize=4)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _log_sizes(axes)
    return figure


def isoflop(trials: pd.DataFrame, title: str) -> Figure:
    """Loss against size at equal compute; the lowest loss of each size joined."""
    figure, axes = one_panel(f"{title}: equal compute", "counted parameters", "val_loss (nats)")
    for place, (flops, group) in enumerate(trials.groupby("flops")):
        style = budget_style(place)
        axes.scatter(group["n_params"], group["val_loss"], s=8, color=style["color"], alpha=0.35, linewidths=0)
        lowest = group.loc[group.groupby("budget")["val_loss"].idxmin()].sort_values("n_params")
        axes.plot(lowest["n_params"], lowest["val_loss"], label=f"$10^{{{np.log10(float(str(flops))):.3g}}}$ FLOP", **style)
    axes.set_ylim(top=float(trials["val_loss"].quantile(0.9)))
    _log_sizes(axes)
    legend_right(axes)
    return figure


def _log_sizes(axes: Axes) -> None:
    """A logarithmic axis of sizes, wide enough for two of its numbers: one number is no scale."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    wider = max(1.0, np.sqrt(NARROWEST * low / high))
    axes.set_xlim(low / wider, high * wider)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
