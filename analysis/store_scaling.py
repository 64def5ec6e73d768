"""Validation loss against counted parameters, from a store: table, figures, verdict and laws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.options import ScalingOptions

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from analysis.results.frontier import BudgetResult, Frontier
    from research.evaluation.significance import Difference

REPORTS = "reports"
ENOUGH_BUDGETS = 3


@dataclass(frozen=True, kw_only=True)
class BudgetStep:
    """Change of the best loss from one budget to the next."""

    smaller: str
    larger: str
    factor: float
    """Ratio of counted parameters."""
    change: Difference
    """Loss of the larger minus loss of the smaller, per validation day."""


def print_scaling(options: ScalingOptions) -> None:
    """Print tables and verdicts of every question; write figures and CSV files and print their paths."""
    from analysis.data_scaling_table import data_law_table, data_table
    from analysis.results.data_scaling import data_axes
    from analysis.results.frontier import frontiers
    from research.cli.console import console, print_line, short_path
    from research.cli.next_steps import print_next
    from research.tracking.store import open_store

    screen = console()
    store = open_store(options.store, must_exist=True)
    store_frontiers = frontiers(store, options.experiment)
    for frontier in store_frontiers:
        _print_frontier(frontier, screen)
        for path in draw_scaling(frontier, store.root / REPORTS):
            print_line(screen, f"figure {short_path(path)}")
        print_line(screen, "each figure is also there as PDF, its numbers as CSV\n")
    for axis in data_axes(store_frontiers):
        screen.print(data_table(axis))
        print_line(screen, "~ inside the noise of the validation days; the reports folder has the table as CSV\n")
        if laws := data_law_table(axis):
            screen.print(laws)
        slug = axis.title.replace(", horizon ", "-h").replace(", ", "-")
        axis.table().to_csv(store.root / REPORTS / f"data-{slug}-{axis.frontiers[0].study[:6]}.csv", index=False)
    print_next(screen, options.store, "make report", "make forecast BUDGET=<a larger size>", "make leaderboard")


def _print_frontier(frontier: Frontier, screen: Console) -> None:
    from research.cli.console import plain_table, print_line

    title = (
        f"{frontier.experiment}, horizon {frontier.horizon}, {frontier.n_train_windows:,} training windows: "
        "best val_loss against counted parameters"
    )
    table = plain_table(title, ["budget", "best architecture", "parameters", "val_loss", "skill", "trials"])
    for entry in frontier.entries:
        loss, skill = f"{entry.val_loss:.4f}", f"{entry.skill:+.3f}"
        table.add_row(entry.budget, entry.architecture, f"{entry.n_params:,}", loss, skill, f"{entry.complete}")
    screen.print(table)
    for step in budget_steps(frontier):
        change = step.change
        certainty = "inside the noise" if change.inside_noise else "outside the noise"
        print_line(
            screen,
            f"{step.smaller} -> {step.larger} (x{step.factor:.1f}): {change.mean:+.4f} nats "
            f"[{change.low:+.4f}, {change.high:+.4f}], {certainty}",
            markup=False,
        )
    for line in scaling_sentences(frontier):
        print_line(screen, line, markup=False)
    if laws := law_table(frontier):
        screen.print(laws)


def budget_steps(frontier: Frontier) -> list[BudgetStep]:
    """Return the paired change between neighbouring budgets."""
    from research.evaluation.significance import paired_difference

    return [
        BudgetStep(
            smaller=small.budget,
            larger=large.budget,
            factor=large.n_params / small.n_params,
            change=paired_difference(large.day_losses, small.day_losses),
        )
        for small, large in zip(frontier.entries, frontier.entries[1:], strict=False)
    ]


def slope_per_decade(entries: list[BudgetResult]) -> Difference:
    """Return the least-squares slope of the best losses over log10 of the counted sizes, in nats per tenfold size.

    Its interval is the block bootstrap over days that all budgets share. It holds the noise of the validation days only,
    neither that of the search nor that of the seed.
    """
    import numpy as np

    from analysis.results.scaling_verdict import daily_slope
    from research.evaluation.significance import paired_difference

    slopes_by_day = daily_slope(entries)
    return paired_difference(slopes_by_day, np.zeros_like(slopes_by_day))


def scaling_sentences(frontier: Frontier) -> list[str]:
    """Return the verdict, its cautions, and the slope by the noise of the days alone."""
    from analysis.results.scaling_verdict import scaling_verdict_of

    judged = scaling_verdict_of(frontier)
    if judged is None:
        n = len(frontier.entries)
        return [
            f"{n} budget{'s' if n > 1 else ''}: no trend can be fitted; sweep at least {ENOUGH_BUDGETS}, "
            "for example BUDGET=2K, 6K and 20K."
        ]
    days = slope_per_decade(frontier.entries)
    return [
        f"verdict {judged.verdict.sentence()} The interval holds {judged.noise}.",
        *judged.cautions,
        f"days alone, best trials: {days.mean:+.4f} nats per tenfold size, 95% [{days.low:+.4f}, {days.high:+.4f}].",
    ]


def law_table(frontier: Frontier) -> Table | None:
    """Return the laws fitted to the judged losses, with their held-out errors; None below four budgets."""
    from analysis.laws.fit import fit_laws
    from analysis.laws.observations import observations
    from analysis.laws.validation import FEWEST, validate
    from analysis.results.scaling_verdict import scaling_verdict_of
    from research.cli.console import plain_table

    judged = scaling_verdict_of(frontier)
    if judged is None or judged.verdict.n_budgets <= FEWEST:
        return None
    budgets = observations(n=judged.sizes, loss=judged.losses)
    validation = validate(budgets)
    columns = ["law", "loss", "held-out error", "cautions"]
    table = plain_table(f"laws of the {judged.basis}", columns, left=("law", "loss", "cautions"))
    for fit in fit_laws(budgets):
        error = validation.scores.get(fit.law.name)
        chosen = " chosen" if fit.law.name == validation.chosen else ""
        held_out = "interpolates only" if error is None else f"{error:.2%}{chosen}"
        table.add_row(fit.law.name, fit.law.formula, held_out, " ".join(fit.flags))
    return table


def draw_scaling(frontier: Frontier, folder: Path) -> list[Path]:
    """Draw the frontier with its forecast, and how well the same forecasts did on smaller budgets; return the paths."""
    from analysis.figures import scaling, style
    from analysis.results import extrapolation

    title = f"{frontier.experiment}, horizon {frontier.horizon}"
    band = extrapolation.forecast_band(frontier)
    figures = {"scaling": (scaling.frontier_figure(frontier, band), frontier.trials)}
    for name in ("rollout", "residuals", "isoflop"):
        numbers = getattr(extrapolation, name)(frontier)
        if len(numbers):
            figures[name] = (getattr(scaling, name)(numbers, title), numbers)
    paths = []
    for name, (figure, numbers) in figures.items():
        paths.append(style.report_path(folder, name, frontier))
        style.save(figure, paths[-1], numbers)
    if len(band):
        band.to_csv(style.report_path(folder, "ahead", frontier).with_suffix(".csv"), index=False)
    return paths
