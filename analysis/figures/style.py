"""Style and common parts of all figures, which stay readable in grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from analysis.results.frontier import Frontier
from research.tracking.schema import BASELINE_TITLES

INK, ACCENT, MUTED = "#1b1f24", "#0a6cbd", "#9aa4af"
DASHES = ("--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)))
LINES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
SHADES = ("#0a6cbd", "#1b1f24", "#c2571a", "#6b7280", "#2f855a", "#8b5cf6")
"""Styles by index of a budget: line, marker and shade all differ, so that a grey print stays readable."""
FORMATS = (".png", ".pdf")
NARROWEST_PAGE = 5.6
"""Smallest width of a figure of panels, in inches."""


def save(figure: Figure, path: Path, numbers: pd.DataFrame | None = None) -> None:
    """Write PNG and PDF, whatever the path's suffix, and the numbers as a CSV file of the same name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for axes in figure.axes:
        # The length of a title depends on the name of the data set.
        axes.title.set_wrap(True)
    # Type 42 keeps text as text; journals refuse matplotlib's default, type 3.
    with rc_context({"pdf.fonttype": 42}):
        for suffix in FORMATS:
            figure.savefig(path.with_suffix(suffix), dpi=150)
    if numbers is not None:
        numbers.to_csv(path.with_suffix(".csv"), index=False)


def report_path(folder: Path, name: str, frontier: Frontier) -> Path:
    """Return the path of a figure of one question."""
    parts = (frontier.experiment, f"h{frontier.horizon}", frontier.features, f"c{frontier.context_length}", frontier.study[:6])
    return folder / f"{'-'.join((name, *parts))}.png"


def one_panel(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes without a frame."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=11)
    hide_frame(axes)
    return figure, axes


def hide_frame(axes: Axes) -> None:
    """Remove the spines without a scale."""
    axes.spines[["top", "right"]].set_visible(False)


def panels(count: int, columns: int, *, side: float = 2.4, share: bool = True) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` small panels in rows of up to `columns`; `side` is a panel's side in inches."""
    columns = min(count, columns)
    rows = -(-count // columns)
    # A single panel would be too narrow for the title above it and the legend at its right.
    figure = Figure(figsize=(max(side * columns + 0.6, NARROWEST_PAGE), side * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    for axes in grid[:count]:
        hide_frame(axes)
    for axes in grid[max(0, count - columns) : count]:
        # The panel below may have been removed with the labels that both share.
        axes.tick_params(labelbottom=True)
    return figure, list(grid[:count])


def budget_style(index: int) -> dict[str, Any]:
    """Return line style, marker and shade of a budget by its index, smallest budget first."""
    return {
        "linestyle": LINES[index % len(LINES)],
        "marker": MARKERS[index % len(MARKERS)],
        "color": SHADES[index % len(SHADES)],
        "markersize": 4,
        "linewidth": 1.3,
    }


def loss_against_size(frontier: Frontier, *, named: bool = True) -> Figure:
    """Draw every complete trial by parameter count, the best of each budget joined, and the baselines as lines.

    `named` writes its architecture at each best trial. Bars at the best trials are 95% intervals of the paired difference
    to the training prior, centred on the loss: the noise of the validation days.
    """
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(frontier.trials["n_params"], frontier.trials["val_loss"], s=14, color=MUTED, label="trial")
    size = [entry.n_params for entry in frontier.entries]
    best = [entry.val_loss for entry in frontier.entries]
    axes.plot(size, best, "o-", color=ACCENT, label="best of the budget")
    gaps = [entry.against["prior"] for entry in frontier.entries if "prior" in entry.against]
    if len(gaps) == len(best):
        error = [[gap.mean - gap.low for gap in gaps], [gap.high - gap.mean for gap in gaps]]
        axes.errorbar(size, best, yerr=error, fmt="none", color=ACCENT, label="95%, validation days")
    for entry in frontier.entries if named else ():
        axes.annotate(
            entry.architecture,
            (entry.n_params, entry.val_loss),
            textcoords="offset points",
            xytext=(6, -10),
            color=ACCENT,
            fontsize=8,
            # A baseline's line may cross the label.
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5},
        )
    for (name, loss), dash in zip(frontier.baselines.items(), DASHES, strict=False):
        axes.axhline(loss, color=INK, linestyle=dash, linewidth=1, label=f"{BASELINE_TITLES.get(name, name)} {loss:.4f}")
    axes.set(
        xscale="log",
        xlabel="counted parameters",
        ylabel=f"val_loss, {frontier.n_days:,} days (nats)",
        title=f"{frontier.experiment}, horizon {frontier.horizon}",
    )
    low, high = np.log10(min(frontier.trials["n_params"])), np.log10(max(frontier.trials["n_params"]))
    axes.set_xlim(10 ** (low - 0.15), 10 ** (high + 0.35))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _cut_failures(axes, frontier, best)
    hide_frame(axes)
    legend_right(axes)
    return figure


def legend_right(axes: Axes) -> None:
    """Put the legend to the right of the axes, where it covers nothing."""
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3)


def _cut_failures(axes: Axes, frontier: Frontier, best: list[float]) -> None:
    """Cut the axis above all baselines and write the number of trials above the cut."""
    lowest, highest = min([*best, *frontier.baselines.values()]), max([*best, *frontier.baselines.values()])
    top = highest + max(0.25 * (highest - lowest), 1e-3)
    above = int((frontier.trials["val_loss"] > top).sum())
    if above:
        axes.set_ylim(top=top)
        axes.text(0.01, 0.99, f"{above} trials above", transform=axes.transAxes, va="top", fontsize=8, color=MUTED)
