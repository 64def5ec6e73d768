"""Figures of runs. Every function takes computed numbers and returns a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK, ACCENT, MUTED = "#1b1f24", "#0a6cbd", "#9aa4af"
WIDTH, HEIGHT = 5.6, 3.4


def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    figure.savefig(path, dpi=110, bbox_inches="tight")


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def learning_curve(train: Sequence[float], validation: Sequence[float], best_epoch: int, base_rate_loss: float) -> Figure:
    """Training and validation loss by epoch, with the base-rate loss as the line to beat."""
    figure, axes = _axes("learning curve", "epoch", "log loss (nats)")
    epochs = range(1, len(train) + 1)
    axes.plot(epochs, train, color=MUTED, label="training (with dropout)")
    axes.plot(epochs, validation, color=ACCENT, label="validation")
    axes.axhline(base_rate_loss, color=INK, linestyle="--", linewidth=1, label="training base rate")
    axes.plot(best_epoch, validation[best_epoch - 1], "o", color=ACCENT)
    axes.legend(frameon=False)
    return figure


Bins = Sequence[tuple[float, float, int]]
"""Mean probability, observed share and number of rows of each bin."""


def reliability(table: Bins, base_rate: float, *, name: str = "bin", beside: tuple[str, Bins] | None = None) -> Figure:
    """Observed share against predicted probability, bins of equal mass; another map's bins are named and hollow."""
    figure, axes = _axes("reliability", "predicted probability", "observed share")
    predicted, observed, rows = (np.array(column) for column in zip(*table, strict=True))
    error = np.sqrt(observed * (1 - observed) / rows)
    top = float(max(predicted.max(), (observed + error).max())) * 1.05
    axes.plot([0, top], [0, top], color=MUTED, linewidth=1)
    axes.axhline(base_rate, color=INK, linestyle="--", linewidth=1, label="observed base rate")
    axes.errorbar(predicted, observed, yerr=error, fmt="o", color=ACCENT, label=f"{name}, ±1 standard error")
    if beside is not None:
        other, bins = beside
        axes.plot([row[0] for row in bins], [row[1] for row in bins], "s", color=INK, fillstyle="none", label=other)
    axes.legend(frameon=False)
    return figure


def roc(false_positive: NDArray[np.float64], true_positive: NDArray[np.float64], auc: float, auc_se: float) -> Figure:
    """Receiver operating characteristic."""
    figure, axes = _axes(f"ROC: AUC {auc:.3f} ± {auc_se:.3f}", "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
    axes.plot(false_positive, true_positive, color=ACCENT)
    axes.set_aspect("equal")
    return figure


def search_history(losses: Sequence[float], labels: Sequence[str], references: dict[str, float]) -> Figure:
    """Validation loss of each finished trial in order, the best so far, and the baselines as lines."""
    figure, axes = _axes("search history", "finished trial", "val_loss (nats)")
    numbers = np.arange(1, len(losses) + 1)
    axes.plot(numbers, losses, "o", color=MUTED, label="trial")
    axes.step(numbers, np.minimum.accumulate(losses), where="post", color=ACCENT, label="best so far")
    axes.annotate(
        labels[int(np.argmin(losses))],
        (numbers[np.argmin(losses)], min(losses)),
        textcoords="offset points",
        xytext=(4, -12),
        color=ACCENT,
        fontsize=8,
    )
    draw_references(axes, references)
    axes.legend(frameon=False, fontsize=8)
    return figure


def draw_references(axes: Axes, references: dict[str, float]) -> None:
    """Draw a horizontal line per baseline, with dashes that can be distinguished in grey."""
    styles = ("--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)))
    for (name, loss), style in zip(references.items(), styles, strict=False):
        axes.axhline(loss, color=INK, linestyle=style, linewidth=1, label=f"{name} {loss:.4f}")


def importances(values: dict[str, float]) -> Figure:
    """Share of the spread in val_loss that each searched name explains."""
    figure, axes = _axes("parameter importance (PED-ANOVA)", "share", "")
    names = list(values)[::-1]
    axes.barh(names, [values[name] for name in names], color=ACCENT)
    return figure


def parallel_coordinates(table: pd.DataFrame, objective: str) -> Figure:
    """One line per trial through its settings, darker for lower loss; every axis runs from its lowest to its highest value."""
    figure, axes = _axes("trials", "", "")
    figure.set_size_inches(1.6 * WIDTH, HEIGHT)
    scaled, bounds = {}, {}
    for name in table.columns:
        values = table[name].to_numpy(np.float64)
        position = np.log10(values) if name.startswith(("learning", "weight")) else values
        span = np.ptp(position) or 1.0
        scaled[name], bounds[name] = (position - position.min()) / span, (values.min(), values.max())
    order = np.argsort(-table[objective].to_numpy())
    shades = np.linspace(0.15, 1.0, len(table))
    for shade, row in zip(shades, order, strict=True):
        axes.plot([scaled[name][row] for name in table.columns], color=ACCENT, alpha=float(shade), linewidth=1 + shade)
    axes.set_xticks(
        range(len(table.columns)),
        [f"{name}\n{bounds[name][0]:.3g} .. {bounds[name][1]:.3g}" for name in table.columns],
        fontsize=7,
    )
    axes.set_yticks([])
    return figure
