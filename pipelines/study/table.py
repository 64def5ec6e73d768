"""Printed output of a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from research.cli.console import duration, plain_table, print_line
from research.cli.next_steps import print_next

if TYPE_CHECKING:
    from pipelines.study.state import Study, StudyProgress

STYLES = {"done": "green", "running": "yellow", "failed": "red", "waiting": "dim"}


def print_opening(study: Study, console: Console) -> None:
    """Print the data, the sweeps, the searched architectures per budget, and warnings."""
    task = study.context.task
    snapshot = task.snapshot
    by_horizon = {sweep.sweep.horizon: sweep for sweep in study.sweeps}
    horizons = ", ".join(map(str, sorted(by_horizon)))
    print_line(console, f"[bold]data[/]       {snapshot.manifest.source}: {task.spec.data.title}, snapshot {snapshot.digest}")
    print_line(console, f"[bold]study[/]      {len(study.sweeps)} sweeps on {task.experiment}, sessions ahead {horizons}")
    for label, sweep in {sweep.sweep.budget.label: sweep for sweep in study.sweeps}.items():
        sizes = f"{len(sweep.sizes)} architectures of {sweep.sizes[0]:,} .. {sweep.sizes[-1]:,} parameters"
        print_line(console, f"[bold]{label:<10}[/] {sizes}")
        if sweep.left_out:
            print_line(
                console, f"[yellow]warning[/]    {sweep.left_out} more do not fit in the free memory and are not searched"
            )
    for horizon, sweep in by_horizon.items():
        for sentence in sweep.thin:
            print_line(console, f"[red]thin evidence[/] at horizon {horizon}: {sentence}")
    if study.finishing:
        print_line(console, "[bold]finishing[/]  this study was stopped: its missing trials run now, none are added this time")


def print_progress(progress: StudyProgress, console: Console) -> None:
    """Print the table of sweeps, the time, and a warning if the numbers of trials differ."""
    console.print(progress_table(progress))
    print_line(console, clock(progress))
    targets = sorted({sweep.target for sweep in progress.sweeps})
    if len(targets) > 1:
        counts = f"{targets[0]} .. {targets[-1]} trials per sweep"
        print_line(console, f"[yellow]warning[/]  {counts}: give TRIALS={targets[-1]} for equal numbers everywhere")


def print_stop(title: str, console: Console) -> None:
    """Print how to continue a stopped study."""
    print_line(console, f"stopped in {title}; the same command continues there")


def print_ending(progress: StudyProgress, store: Path, console: Console) -> None:
    """Print the failed sweeps with their reasons, and the next commands."""
    for sweep in progress.failed:
        print_line(console, f"[red]failed[/]  {sweep.sweep.title}: {escape(sweep.reason)}")
    if progress.failed:
        print_line(console, "The same command retries the failed sweeps and leaves the others unchanged.")
    print_next(console, store, "make leaderboard", "make scaling")


def progress_table(progress: StudyProgress) -> Table:
    """Return a table with one row per budget and one column per horizon."""
    columns = ["budget", *(f"horizon {horizon}" for horizon in sorted({sweep.sweep.horizon for sweep in progress.sweeps}))]
    table = plain_table("", columns, left=columns)
    rows: dict[str, list[str]] = {}
    for sweep in progress.sweeps:
        loss = f"  {sweep.state.best_loss:.4f}" if sweep.state.best_loss is not None else ""
        cell = f"[{STYLES[sweep.status]}]{sweep.status}[/] {sweep.state.settled}/{sweep.target}{loss}"
        rows.setdefault(sweep.sweep.row, []).append(cell)
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def clock(progress: StudyProgress) -> str:
    """Return one line with the sweeps done, the time spent and the time left."""
    done = f"{progress.done} of {len(progress.sweeps)} sweeps done, {duration(progress.elapsed)} elapsed"
    if progress.left is None:
        return f"{done}, time left unknown until a trial has ended"
    return f"{done}, about {duration(progress.left)} left" if progress.left else done
