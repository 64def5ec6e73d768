"""How a study is drawn: every number was computed before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.plan.table import duration
from research.cli.next_steps import print_next

if TYPE_CHECKING:
    from pipelines.study.state import Study, StudyProgress, SweepProgress

STYLES = {"done": "green", "running": "yellow", "failed": "red", "waiting": "dim"}


def print_opening(ladder: Study, console: Console) -> None:
    """Say what the ladder stands on: data, sweeps, and per budget the architectures that are searched."""
    context, steps = ladder.context, ladder.steps
    snapshot, symbols = context.task.snapshot, context.task.spec.data.title
    horizons = ", ".join(str(horizon) for horizon in sorted({step.rung.horizon for step in steps}))
    _say(console, f"[bold]data[/]       {snapshot.manifest.source}: {symbols}, snapshot {snapshot.digest}")
    _say(console, f"[bold]study[/]      {len(steps)} sweeps on {context.task.experiment}, sessions ahead {horizons}")
    by_budget = {step.rung.budget.label: step for step in steps}
    for label, step in by_budget.items():
        sizes = f"{len(step.sizes)} architectures of {step.sizes[0]:,} .. {step.sizes[-1]:,} parameters"
        _say(console, f"[bold]{label:<10}[/] {sizes}")
        if step.left_out:
            _say(console, f"[yellow]warning[/]    {step.left_out} more do not fit the memory that is free and are not searched")
    by_horizon = {step.rung.horizon: step for step in steps}
    for horizon, step in by_horizon.items():
        for sentence in step.thin:
            _say(console, f"[red]thin evidence[/] at horizon {horizon}: {sentence}")
    if ladder.finishing:
        _say(console, "[bold]finishing[/]  this study was stopped: it gets the trials it was to have, none are added this time")


def print_overview(overview: StudyProgress, console: Console) -> None:
    """Budgets down, horizons across, and the time."""
    console.print(overview_table(overview))
    _say(console, clock(overview))
    targets = sorted({cell.target for cell in overview.cells})
    if len(targets) > 1:
        told = f"{targets[0]} .. {targets[-1]}"
        _say(console, f"[yellow]warning[/]  {told} trials per sweep: give TRIALS={targets[-1]} for equal numbers everywhere")


def print_rung(place: int, count: int, title: str, console: Console) -> None:
    """Say which sweep begins."""
    console.rule(f"sweep {place} of {count}: {title}", align="left")


def print_stop(title: str, console: Console) -> None:
    """Say where the study goes on."""
    _say(console, f"stopped in {title}; the same command goes on there")


def print_ending(overview: StudyProgress, store: Path, console: Console) -> None:
    """What failed and why, and what to type next."""
    for cell in overview.failed:
        _say(console, f"[red]failed[/]  {cell.rung.title}: {escape(cell.reason)}")
    if overview.failed:
        _say(console, "The same command tries them again and leaves the others alone.")
    print_next(console, store, "make leaderboard", "make scaling")


def overview_table(overview: StudyProgress) -> Table:
    """One line per budget, one column per horizon."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("budget", no_wrap=True)
    for horizon in sorted({cell.rung.horizon for cell in overview.cells}):
        table.add_column(f"horizon {horizon}", no_wrap=True)
    rows: dict[str, list[str]] = {}
    for cell in overview.cells:
        rows.setdefault(cell.rung.row, []).append(_cell(cell))
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def clock(overview: StudyProgress) -> str:
    """Sweeps done, time spent and time left in one line."""
    done = f"{overview.done} of {len(overview.cells)} sweeps done, {duration(overview.elapsed)} elapsed"
    if overview.left is None:
        return f"{done}, time left unknown until a trial has ended"
    return f"{done}, about {duration(overview.left)} left" if overview.left else done


def _cell(cell: SweepProgress) -> str:
    loss = f"  {cell.state.best_loss:.4f}" if cell.state.best_loss is not None else ""
    return f"[{STYLES[cell.status]}]{cell.status}[/] {cell.state.settled}/{cell.target}{loss}"


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False)
