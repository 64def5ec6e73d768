"""Drawing only: what a search reaches, how its best trials learned, and whether they mean what they say."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

from analysis.figures.style import ACCENT, DASHES, INK, budget_style, legend_right, one_panel, panels
from research.tracking.schema import BASELINE_TITLES

TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def tuning(curves: pd.DataFrame, baselines: dict[str, float], title: str) -> Figure:
    """Expected best of n random trials against n, with the 95% band of the search; baselines as lines.

    `curves` is what `analysis.results.run_curves.tuning_curves` gives.
    """
    figure, axes = one_panel(title, "n random trials", "expected best val_loss (nats)")
    for place, (budget, curve) in enumerate(curves.groupby("budget", sort=False)):
        style = budget_style(place)
        reach = 1.96 * curve["standard_error"]
        axes.fill_between(
            curve["n"],
            curve["expected_best"] - reach,
            curve["expected_best"] + reach,
            color=style["color"],
            alpha=0.12,
            linewidth=0,
        )
        axes.plot(curve["n"], curve["expected_best"], label=str(budget), **style)
    _baseline_lines(axes, baselines)
    axes.set_xscale("log")
    most = curves["n"].max()
    axes.xaxis.set_major_locator(FixedLocator([n for n in TICKS if n <= most]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    legend_right(axes)
    return figure


def learning(curves: pd.DataFrame, base_rate_loss: float, title: str) -> Figure:
    """Training (thin) and validation loss by epoch of each budget's best trial, one panel per budget.

    `curves` is what `analysis.results.run_curves.learning_curves` gives.
    """
    budgets = list(curves["budget"].unique())
    figure, grid = panels(len(budgets), 4)
    for axes, budget in zip(grid, budgets, strict=True):
        mine = curves[curves["budget"] == budget]
        axes.plot(mine["epoch"], mine["train_loss"], color=INK, linewidth=0.9, linestyle="--", label="training, with dropout")
        axes.plot(mine["epoch"], mine["val_loss"], color=ACCENT, linewidth=1.5, label="validation")
        lowest = mine.loc[mine["val_loss"].idxmin()]
        axes.plot(lowest["epoch"], lowest["val_loss"], "o", color=ACCENT, markersize=5, label="lowest")
        axes.axhline(base_rate_loss, color=INK, linestyle=":", linewidth=1, label="base rate, validation")
        axes.set_title(budget, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _shared(figure, grid, title, "epoch", "log loss (nats)")
    return figure


def reliability(curves: pd.DataFrame, title: str) -> Figure:
    """Observed share against predicted probability, one panel per model: budgets' best trials, then baselines.

    `curves` is what `analysis.results.run_curves.calibration_curves` gives.
    """
    models = list(curves["model"].unique())
    figure, grid = panels(len(models), 4)
    end = float(curves[["predicted", "high"]].to_numpy().max()) * 1.03
    for axes, model in zip(grid, models, strict=True):
        mine = curves[curves["model"] == model].sort_values("predicted")
        axes.plot([0, end], [0, end], color=INK, linestyle=":", linewidth=1, label="as often as said")
        reach = [mine["observed"] - mine["low"], mine["high"] - mine["observed"]]
        shade = INK if model in BASELINE_TITLES else ACCENT
        axes.errorbar(
            mine["predicted"], mine["observed"], yerr=reach, fmt="o-", color=shade, markersize=3.5, linewidth=1, elinewidth=0.7
        )
        axes.set(xlim=(0, end), ylim=(0, end), aspect="equal")
        axes.set_title(BASELINE_TITLES.get(model, model), fontsize=10)
    figure.suptitle(title, fontsize=11, wrap=True)
    figure.supxlabel("predicted probability", fontsize=10)
    figure.supylabel("observed share, 95%", fontsize=10)
    return figure


def _baseline_lines(axes: Axes, baselines: dict[str, float]) -> None:
    for (name, loss), dash in zip(baselines.items(), DASHES, strict=False):
        axes.axhline(loss, color=INK, linestyle=dash, linewidth=0.8, label=f"{BASELINE_TITLES.get(name, name)} {loss:.4f}")


def _shared(figure: Figure, grid: Sequence[Axes], title: str, x: str, y: str) -> None:
    figure.suptitle(title, fontsize=11, wrap=True)
    figure.supxlabel(x, fontsize=10)
    figure.supylabel(y, fontsize=10)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside right center", handlelength=3)
