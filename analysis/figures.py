"""Drawing only: numbers in, figure out. Readable in grey, no decoration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from analysis.frontier import Frontier
from research.tracking.schema import BASELINE_TITLES

INK, ACCENT, MUTED = "#1b1f24", "#0a6cbd", "#9aa4af"
DASHES = ("--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)))


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the path's suffix."""
    figure.savefig(path, dpi=150, bbox_inches="tight")


def loss_against_size(frontier: Frontier) -> Figure:
    """Every complete trial by counted size, the best of each budget joined, the baselines as lines.

    Bars at the best trials are 95% of the paired difference to the training prior, put around the loss: the
    noise of the validation days.
    """
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(frontier.trials["n_params"], frontier.trials["val_loss"], s=14, color=MUTED, label="trial")
    size = [entry.n_params for entry in frontier.entries]
    best = [entry.val_loss for entry in frontier.entries]
    axes.plot(size, best, "o-", color=ACCENT, label="best of the budget")
    gaps = [entry.against["prior"] for entry in frontier.entries if "prior" in entry.against]
    if len(gaps) == len(best):
        reach = [[gap.mean - gap.low for gap in gaps], [gap.high - gap.mean for gap in gaps]]
        axes.errorbar(size, best, yerr=reach, fmt="none", color=ACCENT, label="95%, validation days")
    for entry in frontier.entries:
        axes.annotate(
            entry.architecture,
            (entry.n_params, entry.val_loss),
            textcoords="offset points",
            xytext=(6, -10),
            color=ACCENT,
            fontsize=8,
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
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
