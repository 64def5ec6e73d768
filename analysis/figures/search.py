"""Figures of tuning, learning and calibration curves: drawing only."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

from analysis.figures.style import ACCENT, DASHES, INK, budget_style, legend_right, one_panel, panels
from research.tracking.schema import BASELINE_TITLES

TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def tuning(curves: pd.DataFrame, baselines: dict[str, float], title: str) -> Figure:
    """Draw the expected best of n random trials against n, with its 95% band; baselines as lines.

    `curves` is the table of `analysis.results.run_curves.tuning_curves`.
    """
    figure, axes = one_panel(title, "n random trials", "expected best val_loss (nats)")
    for index, (budget, curve) in enumerate(curves.groupby("budget", sort=False)):
        style = budget_style(index)
        best, error = curve["expected_best"], 1.96 * curve["standard_error"]
        axes.fill_between(curve["n"], best - error, best + error, color=style["color"], alpha=0.12, linewidth=0)
        axes.plot(curve["n"], best, label=str(budget), **style)
    for (name, loss), dash in zip(baselines.items(), DASHES, strict=False):
        axes.axhline(loss, color=INK, linestyle=dash, linewidth=0.8, label=f"{BASELINE_TITLES.get(name, name)} {loss:.4f}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([n for n in TICKS if n <= curves["n"].max()]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    legend_right(axes)
    return figure


def learning(curves: pd.DataFrame, base_rate_loss: float, title: str) -> Figure:
    """Draw training (thin) and validation loss by epoch of each budget's best trial, one panel per budget.

    `curves` is the table of `analysis.results.run_curves.learning_curves`.
    """
    budgets = list(curves["budget"].unique())
    figure, grid = panels(len(budgets), 4)
    for axes, budget in zip(grid, budgets, strict=True):
        curve = curves[curves["budget"] == budget]
        axes.plot(curve["epoch"], curve["train_loss"], color=INK, linewidth=0.9, linestyle="--", label="training, with dropout")
        axes.plot(curve["epoch"], curve["val_loss"], color=ACCENT, linewidth=1.5, label="validation")
        lowest = curve.loc[curve["val_loss"].idxmin()]
        axes.plot(lowest["epoch"], lowest["val_loss"], "o", color=ACCENT, markersize=5, label="lowest")
        axes.axhline(base_rate_loss, color=INK, linestyle=":", linewidth=1, label="base rate, validation")
        axes.set_title(budget, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.suptitle(title, fontsize=11, wrap=True)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("log loss (nats)", fontsize=10)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside right center", handlelength=3)
    return figure


def reliability(curves: pd.DataFrame, title: str) -> Figure:
    """Draw observed share against predicted probability, one panel per model: budgets' best trials, then baselines.

    `curves` is the table of `analysis.results.run_curves.calibration_curves`.
    """
    models = list(curves["model"].unique())
    figure, grid = panels(len(models), 4)
    end = float(curves[["predicted", "high"]].to_numpy().max()) * 1.03
    for axes, model in zip(grid, models, strict=True):
        bins = curves[curves["model"] == model].sort_values("predicted")
        axes.plot([0, end], [0, end], color=INK, linestyle=":", linewidth=1, label="calibrated")
        error = [bins["observed"] - bins["low"], bins["high"] - bins["observed"]]
        shade = INK if model in BASELINE_TITLES else ACCENT
        axes.errorbar(
            bins["predicted"], bins["observed"], yerr=error, fmt="o-", color=shade, markersize=3.5, linewidth=1, elinewidth=0.7
        )
        axes.set(xlim=(0, end), ylim=(0, end), aspect="equal")
        axes.set_title(BASELINE_TITLES.get(model, model), fontsize=10)
    figure.suptitle(title, fontsize=11, wrap=True)
    figure.supxlabel("predicted probability", fontsize=10)
    figure.supylabel("observed share, 95%", fontsize=10)
    return figure
