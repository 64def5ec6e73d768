"""Printed output of the baselines' walk-forward."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from pipelines.checks.baseline_walk_forward import BaselineResult, Forecasts
from research.cli.console import plain_table, print_line
from research.task.build import TaskData
from research.tracking.schema import BASELINE_TITLES
from research.tracking.store import Store

COLUMNS = ("question", "base rate", "baseline", "log loss", "skill", "AUC", "against the prior")


def print_opening(data: TaskData, years: tuple[int, int], console: Console) -> None:
    """Print the predicted years and the training rule."""
    symbols = ", ".join(data.spec.data.validate_on)
    years_text = f"walk-forward {years[0]}-{years[1]} on {symbols}"
    rule = "each year's days are predicted by models fitted on all days before it, purged by the label interval"
    print_line(console, f"{years_text}: {rule}")


def table_of(results: Sequence[tuple[Forecasts, list[BaselineResult]]]) -> Table:
    """Return a table with one block per question and one row per baseline."""
    table = plain_table("", COLUMNS, left=("question", "baseline"))
    for predictions, rows in results:
        shown = [f"{predictions.target.name} h{predictions.target.horizon}", f"{len(predictions.labels):,} rows"]
        for index, row in enumerate(rows):
            rate = f"{predictions.labels.mean():.3f}" if index == 0 else ""
            question = shown[index] if index < len(shown) else ""
            table.add_row(question, rate, *_cells(row), end_section=index == len(rows) - 1)
    return table


def _cells(row: BaselineResult) -> tuple[str, ...]:
    gap = row.against_prior
    distance = "" if row.baseline == "prior" else f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
    return (
        BASELINE_TITLES.get(row.baseline, row.baseline),
        f"{row.loss.mean:.4f} [{row.loss.low:.4f}, {row.loss.high:.4f}]",
        f"{row.skill:+.3f}",
        f"{row.auc:.3f}",
        distance,
    )


def print_ending(store: Store, console: Console) -> None:
    """Print how the intervals are made and where the results are."""
    for line in (
        "[95%]: circular block bootstrap over the predicted days, blocks of 60; distances are paired by day.",
        f"one run of kind report per question in {store.root.name}, with every prediction as Parquet",
    ):
        print_line(console, line, markup=False)
