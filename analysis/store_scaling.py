"""Does the validation loss in a store fall with counted parameters? A table, a figure, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from analysis.results.frontier import BudgetResult, Frontier
    from research.evaluation.significance import Difference
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
    """From one budget to the next."""

    smaller: str
    larger: str
    factor: float
    """Ratio of counted parameters."""
    change: Difference
    """Loss of the larger minus that of the smaller, per validation day."""


def steps(frontier: Frontier) -> list[BudgetStep]:
    """The paired change between neighbouring budgets."""
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
    """Least-squares slope of the best losses over log10 of the counted sizes, in nats per tenfold size.

    Its interval is the block bootstrap over days that all budgets share: it holds the noise of the validation days only,
    not that of the search or of the seed.
    """
    import numpy as np

    from analysis.results.scaling_verdict import daily_slope
    from research.evaluation.significance import paired_difference

    by_day = daily_slope(entries)
    return paired_difference(by_day, np.zeros_like(by_day))


def findings(frontier: Frontier) -> list[str]:
    """What these budgets can and cannot tell."""
    from analysis.results.scaling_verdict import judge

    judged = judge(frontier)
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
        f"of the days alone, best trials: {days.mean:+.4f} nats per tenfold size, 95% [{days.low:+.4f}, {days.high:+.4f}].",
    ]


def law_table(frontier: Frontier) -> Table | None:
    """Laws fitted to the judged losses and how each foretold budgets that it had not seen; None below four budgets."""
    from analysis.laws.fit import fit_laws
    from analysis.laws.observations import observations
    from analysis.laws.validation import FEWEST, validate
    from analysis.results.scaling_verdict import judge
    from research.cli.console import plain_table

    judged = judge(frontier)
    if judged is None or judged.verdict.n_budgets <= FEWEST:
        return None
    table = observations(n=judged.sizes, loss=judged.losses)
    held = validate(table)
    shown = plain_table(f"laws of the {judged.basis}", ["law", "loss", "held-out error", "what to beware of"])
    for name in (0, 1, 3):
        shown.columns[name].justify = "left"
    for fit in fit_laws(table):
        error = held.scores.get(fit.law.name)
        chosen = " chosen" if fit.law.name == held.chosen else ""
        told = "interpolates only" if error is None else f"{error:.2%}{chosen}"
        shown.add_row(fit.law.name, fit.law.formula, told, " ".join(fit.flags))
    return shown


def show(options: ScalingOptions) -> None:
    """Print the table, write figure and CSV, say where they are."""
    from analysis.data_scaling_table import data_law_table, data_table
    from analysis.results.data_scaling import data_axes
    from analysis.results.frontier import frontiers
    from research.cli.console import console, short_path
    from research.cli.next_steps import print_next
    from research.tracking.store import open_store

    screen = console()
    store = open_store(options.store, must_exist=True)
    found = frontiers(store, options.experiment)
    for frontier in found:
        _print(frontier, screen)
        for path in draw(frontier, store.root / REPORTS):
            screen.print(f"figure {short_path(path)}", soft_wrap=True, highlight=False)
        screen.print("beside each: the same as PDF, its numbers as CSV\n", highlight=False)
    for axis in data_axes(found):
        screen.print(data_table(axis))
        screen.print("~ inside the noise of the validation days; the table is in reports as CSV\n", highlight=False)
        if laws := data_law_table(axis):
            screen.print(laws)
        axis.table().to_csv(store.root / REPORTS / f"data-{_slug(axis.title)}-{axis.frontiers[0].study[:6]}.csv", index=False)
    print_next(screen, options.store, "make report", "make forecast BUDGET=<a larger size>", "make leaderboard")


def draw(frontier: Frontier, folder: Path) -> list[Path]:
    """The frontier with what lies ahead of it, and how well the same way of looking ahead did so far."""
    from analysis.figures import scaling as figures_scaling
    from analysis.figures import style as figures
    from analysis.results import extrapolation

    title = f"{frontier.experiment}, horizon {frontier.horizon}"
    ahead = extrapolation.forecast_band(frontier)
    drawn = {"scaling": (figures_scaling.fan(frontier, ahead), frontier.trials)}
    for name in ("rollout", "residuals", "isoflop"):
        numbers = getattr(extrapolation, name)(frontier)
        if len(numbers):
            drawn[name] = (getattr(figures_scaling, name)(numbers, title), numbers)
    paths = []
    for name, (figure, numbers) in drawn.items():
        paths.append(figures.report_path(folder, name, frontier))
        figures.save(figure, paths[-1], numbers)
    if len(ahead):
        ahead.to_csv(figures.report_path(folder, "ahead", frontier).with_suffix(".csv"), index=False)
    return paths


def _print(frontier: Frontier, screen: Console) -> None:
    from research.cli.console import plain_table

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
    if found := law_table(frontier):
        screen.print(found)


def _slug(title: str) -> str:
    return title.replace(", horizon ", "-h").replace(", ", "-")
