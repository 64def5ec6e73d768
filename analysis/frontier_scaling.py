"""Does the validation loss in a store fall with counted parameters? A table, a figure, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.options import ScalingOptions

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.frontier import Entry, Frontier
    from research.significance import Difference

REPORTS = "reports"
ENOUGH_BUDGETS = 3


@dataclass(frozen=True, kw_only=True)
class Step:
    """From one budget to the next."""

    smaller: str
    larger: str
    factor: float
    """Ratio of counted parameters."""
    change: Difference
    """Loss of the larger minus that of the smaller, per validation day."""


def steps(frontier: Frontier) -> list[Step]:
    """The paired change between neighbouring budgets."""
    from research.significance import paired_difference

    return [
        Step(
            smaller=small.budget,
            larger=large.budget,
            factor=large.n_params / small.n_params,
            change=paired_difference(large.day_losses, small.day_losses),
        )
        for small, large in zip(frontier.entries, frontier.entries[1:], strict=False)
    ]


def slope_per_decade(entries: list[Entry]) -> Difference:
    """Least-squares slope of the best losses over log10 of the counted sizes, in nats per tenfold size.

    The slope is a weighted sum of mean losses, hence the mean of the same sum taken day by day: its interval
    is the block bootstrap over days that all budgets share. It holds the noise of the validation days only,
    not that of the search or of the seed.
    """
    import numpy as np

    from research.significance import paired_difference

    size = np.log10([entry.n_params for entry in entries])
    centred = size - size.mean()
    weights = centred / (centred**2).sum()
    by_day = np.column_stack([entry.day_losses for entry in entries]) @ weights
    return paired_difference(by_day, np.zeros_like(by_day))


def findings(frontier: Frontier) -> list[str]:
    """What these budgets can and cannot tell."""
    n = len(frontier.entries)
    if n < ENOUGH_BUDGETS:
        return [
            f"{n} budget{'s' if n > 1 else ''}: no trend can be fitted; sweep at least {ENOUGH_BUDGETS}, "
            "for example BUDGET=2K, 6K and 20K."
        ]
    slope = slope_per_decade(frontier.entries)
    told = f"slope {slope.mean:+.4f} nats per tenfold size, 95% interval [{slope.low:+.4f}, {slope.high:+.4f}]"
    if slope.inside_noise:
        verdict = "no evidence of scaling: the slope is inside the noise of the validation days."
    else:
        verdict = f"on these days the loss {'falls' if slope.mean < 0 else 'rises'} with size."
    caution = "Search and seed noise are not in this interval, and the best of each budget was chosen on these days."
    return [f"{told}: {verdict}", caution]


def show(options: ScalingOptions) -> None:
    """Print the table, write figure and CSV, say where they are."""
    from analysis import figures
    from analysis.data_axis import data_axes, table_of
    from analysis.frontier import frontiers
    from analysis.terminal import console
    from research.tracking.store import open_store

    screen = console()
    store = open_store(options.store, must_exist=True)
    found = frontiers(store, options.experiment)
    for frontier in found:
        _print(frontier, screen)
        path = _target(store.root / REPORTS, frontier)
        frontier.trials.to_csv(path.with_suffix(".csv"), index=False)
        figures.save(figures.loss_against_size(frontier), path)
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        screen.print(f"figure {shown}, numbers beside it as CSV\n", soft_wrap=True, highlight=False)
    for axis in data_axes(found):
        screen.print(table_of(axis))
        screen.print("~ inside the noise of the validation days; the table is in reports as CSV, for laws in (N, D)\n")
        axis.table().to_csv(store.root / REPORTS / f"data-{_slug(axis.title)}-{axis.frontiers[0].study[:6]}.csv", index=False)
    screen.print("next  make leaderboard   make ui   make sweep BUDGET=<another size>", highlight=False)


def _print(frontier: Frontier, screen: Console) -> None:
    from analysis.terminal import plain_table

    title = (
        f"{frontier.experiment}, horizon {frontier.horizon}, {frontier.n_train_windows:,} training windows: "
        "best val_loss against counted parameters"
    )
    table = plain_table(title, ["budget", "best architecture", "parameters", "val_loss", "skill", "trials"])
    for entry in frontier.entries:
        table.add_row(
            entry.budget,
            entry.architecture,
            f"{entry.n_params:,}",
            f"{entry.val_loss:.4f}",
            f"{entry.skill:+.3f}",
            f"{entry.complete}",
        )
    screen.print(table)
    for step in steps(frontier):
        sure = "inside the noise" if step.change.inside_noise else "outside the noise"
        screen.print(
            f"{step.smaller} -> {step.larger} (x{step.factor:.1f}): {step.change.mean:+.4f} nats "
            f"[{step.change.low:+.4f}, {step.change.high:+.4f}], {sure}",
            highlight=False,
        )
    for line in findings(frontier):
        screen.print(line, soft_wrap=True, highlight=False)


def _slug(title: str) -> str:
    return title.replace(", horizon ", "-h").replace(", ", "-")


def _target(folder: Path, frontier: Frontier) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"scaling-{frontier.experiment}-h{frontier.horizon}-{frontier.features}-{frontier.study[:6]}.png"
