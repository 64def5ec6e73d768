"""Figures of the loss against depth / width, and over depth and width: drawing only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.figures.style import ACCENT, INK, MUTED, panels
from analysis.results.shape_curve import ratio_label
from research.tracking import schema

GREYS = ListedColormap([str(shade) for shade in np.linspace(0.15, 0.85, 128)])
"""Greys without black and white, since white marks untried cells."""
CUT_QUANTILE = 0.9
"""Quantile of the losses above which trials are drawn at the upper edge: a failed training would flatten the others."""


def ratio_curves(trials: pd.DataFrame, curves: Mapping[str, pd.DataFrame | None], title: str) -> Figure:
    """Draw loss against depth / width, one panel per budget: random trials filled, others hollow, curves with 95% bands.

    `trials` is `Frontier.trials`; `curves` holds, by budget, the columns ratio, loss, low, high, or None without a curve.
    """
    figure, grid = panels(len(curves), 3, side=2.7, share=False)
    for axes, (budget, curve) in zip(grid, curves.items(), strict=True):
        rows = trials[trials["budget"] == budget]
        top = float(rows["val_loss"].quantile(CUT_QUANTILE))
        if curve is not None:
            top = max(top, float(curve["loss"].max()))
        ratio, loss = rows["n_layers"] / rows["d_model"], rows["val_loss"].clip(upper=top)
        random = rows[schema.PROPOSED_BY] == schema.RANDOM
        axes.scatter(ratio[~random], loss[~random], s=14, facecolors="none", edgecolors=MUTED, linewidths=0.9, label="searched")
        axes.scatter(ratio[random], loss[random], s=14, color=INK, label="random")
        if curve is not None:
            axes.fill_between(curve["ratio"], curve["low"], curve["high"], color=ACCENT, alpha=0.15, linewidth=0)
            axes.plot(curve["ratio"], curve["loss"], color=ACCENT, linewidth=1.5, label="quadratic, 95%")
        # An axis needs a width even if all trials have the same loss.
        margin = max(0.08 * (top - loss.min()), 1e-4)
        axes.set_ylim(loss.min() - 2 * margin, top + margin)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: ratio_label(value)))
        axes.set_title(budget if curve is not None else f"{budget} (too few random trials)", fontsize=10)
    figure.suptitle(title, fontsize=11, wrap=True)
    figure.supxlabel("depth / width", fontsize=10)
    figure.supylabel("val_loss (nats)", fontsize=10)
    fullest = max(grid, key=lambda axes: len(axes.get_legend_handles_labels()[0]))
    handles, labels = fullest.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside right center")
    return figure


def heat_maps(cells: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Draw the median loss over depth and width, one panel per budget, with the number of trials per cell; dark is low.

    `cells` holds, by budget, the columns n_layers, d_model, trials, median_loss.
    """
    figure, grid = panels(len(cells), 3, side=2.9, share=False)
    for axes, (budget, table) in zip(grid, cells.items(), strict=True):
        _heat_map(figure, axes, table)
        axes.set_title(budget, fontsize=10)
    figure.suptitle(title, fontsize=11, wrap=True)
    figure.supxlabel("width (d_model)", fontsize=10)
    figure.supylabel("depth (layers)", fontsize=10)
    return figure


def _heat_map(figure: Figure, axes: Axes, cells: pd.DataFrame) -> None:
    """Draw one budget's panel with its colour bar."""
    loss = cells.pivot_table(index="n_layers", columns="d_model", values="median_loss")
    lowest, highest = float(cells["median_loss"].min()), float(np.quantile(cells["median_loss"], CUT_QUANTILE))
    image = axes.imshow(loss.to_numpy(), cmap=GREYS, aspect="auto", origin="lower", vmin=lowest, vmax=highest)
    depths, widths = list(loss.index), list(loss.columns)
    axes.set_xticks(range(len(widths)), [str(width) for width in widths])
    axes.set_yticks(range(len(depths)), [str(depth) for depth in depths])
    for cell in cells.to_dict("records"):
        shade = "white" if cell["median_loss"] < (lowest + highest) / 2 else INK
        x, y = widths.index(cell["d_model"]), depths.index(cell["n_layers"])
        axes.text(x, y, f"{cell['trials']}", ha="center", va="center", fontsize=7, color=shade)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7)
