"""Drawing only: loss against depth / width, and over depth and width."""

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
"""Neither black nor white: white is where nothing was tried."""
STEEPEST = 0.9
"""Quantile of the losses above which trials are drawn at the upper edge: a failed training would flatten all the rest."""


def ratio_curves(trials: pd.DataFrame, curves: Mapping[str, pd.DataFrame | None], title: str) -> Figure:
    """Loss against depth / width, one panel per budget: random trials filled, others hollow, the curve with its 95% band.

    `trials` is `Frontier.trials`; `curves` holds, by budget, the columns ratio, loss, low, high, or None without a curve.
    """
    figure, grid = panels(len(curves), 3, side=2.7, share=False)
    for axes, (budget, curve) in zip(grid, curves.items(), strict=True):
        mine = trials[trials["budget"] == budget]
        top = _ceiling(mine["val_loss"], curve)
        ratio, loss = mine["n_layers"] / mine["d_model"], mine["val_loss"].clip(upper=top)
        random = mine[schema.PROPOSED_BY] == schema.RANDOM
        axes.scatter(ratio[~random], loss[~random], s=14, facecolors="none", edgecolors=MUTED, linewidths=0.9, label="searched")
        axes.scatter(ratio[random], loss[random], s=14, color=INK, label="random")
        if curve is not None:
            axes.fill_between(curve["ratio"], curve["low"], curve["high"], color=ACCENT, alpha=0.15, linewidth=0)
            axes.plot(curve["ratio"], curve["loss"], color=ACCENT, linewidth=1.5, label="quadratic, 95%")
        # Where all trials have one loss there is still an axis to draw.
        room = max(0.08 * (top - loss.min()), 1e-4)
        axes.set_ylim(loss.min() - 2 * room, top + room)
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
    """Median loss over depth and width, one panel per budget, the number of trials in each cell; dark is low.

    `cells` holds, by budget, the columns n_layers, d_model, trials, median_loss.
    """
    figure, grid = panels(len(cells), 3, side=2.9, share=False)
    for axes, (budget, found) in zip(grid, cells.items(), strict=True):
        _heat_map(figure, axes, found)
        axes.set_title(budget, fontsize=10)
    figure.suptitle(title, fontsize=11, wrap=True)
    figure.supxlabel("width (d_model)", fontsize=10)
    figure.supylabel("depth (layers)", fontsize=10)
    return figure


def _heat_map(figure: Figure, axes: Axes, found: pd.DataFrame) -> None:
    loss = found.pivot_table(index="n_layers", columns="d_model", values="median_loss")
    lowest, highest = float(found["median_loss"].min()), float(np.quantile(found["median_loss"], STEEPEST))
    image = axes.imshow(loss.to_numpy(), cmap=GREYS, aspect="auto", origin="lower", vmin=lowest, vmax=highest)
    axes.set_xticks(range(len(loss.columns)), [str(one) for one in loss.columns])
    axes.set_yticks(range(len(loss.index)), [str(one) for one in loss.index])
    rows, columns = list(loss.index), list(loss.columns)
    for cell in found.to_dict("records"):
        place = (columns.index(cell["d_model"]), rows.index(cell["n_layers"]))
        shade = "white" if cell["median_loss"] < (lowest + highest) / 2 else INK
        axes.text(*place, f"{cell['trials']}", ha="center", va="center", fontsize=7, color=shade)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7)


def _ceiling(losses: pd.Series[float], curve: pd.DataFrame | None) -> float:
    top = float(losses.quantile(STEEPEST))
    return top if curve is None else max(top, float(curve["loss"].max()))
