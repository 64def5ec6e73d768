"""How the baselines' walk-forward is drawn: every number was computed before."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipelines.checks.baseline_walk_forward import BaselineResult, Forecasts
from research.task.build import TaskData
from research.tracking.schema import BASELINE_TITLES
from research.tracking.store import Store

COLUMNS = ("question", "base rate", "baseline", "log loss", "skill", "AUC", "against the prior")


def print_opening(found: TaskData, years: tuple[int, int], console: Console) -> None:
    """Say what is predicted from what."""
    symbols = ", ".join(found.spec.data.validate_on)
    console.print(
        f"walk-forward {years[0]}-{years[1]} on {symbols}: each year's days are predicted by models fitted on all days "
        "before it, purged by the label interval",
        soft_wrap=True,
        highlight=False,
    )


def table_of(found: Sequence[tuple[Forecasts, list[BaselineResult]]]) -> Table:
    """One block per question, one line per baseline."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if place in (0, 2) else "right", no_wrap=True)
    for said, rows in found:
        shown = [_question(said), f"{len(said.labels):,} rows"]
        for place, row in enumerate(rows):
            rate = f"{said.labels.mean():.3f}" if place == 0 else ""
            question = shown[place] if place < len(shown) else ""
            table.add_row(question, rate, *_cells(row), end_section=place == len(rows) - 1)
    return table


def _question(said: Forecasts) -> str:
    return f"{said.target.name} h{said.target.horizon}"


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
    """How to read it, where it is, what to type next."""
    for line in (
        "[95%]: circular block bootstrap over the predicted days, blocks of 60; distances are paired by day.",
        f"one run of kind report per question in {store.root.name}, with every prediction as Parquet",
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
