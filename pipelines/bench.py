"""`make bench`: what tracking, reading, resuming and the data path cost, beside what others pay for the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from rich.table import Table

    from pipelines.benches.row import Row

Name = Literal["tracking", "reading", "resume", "workers", "data", "search_runs"]
SLOW: tuple[Name, ...] = ("search_runs",)
FAST: tuple[Name, ...] = ("tracking", "reading", "resume", "workers", "data")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Measure what the platform promises: ratios and seconds, all on this machine and in this run."""

    names: tyro.conf.Positional[tuple[Name, ...]] = ()
    """Which benches; all but the slow ones if none is named."""
    slow: bool = False
    """Also those that take minutes: MLflow's own way to read a large store."""


def main(options: BenchOptions) -> None:
    """Run benches and print one table; nothing of it touches the store of the project."""
    import tempfile
    from pathlib import Path

    from rich.console import Console

    from pipelines.benches.data import data
    from pipelines.benches.reading import reading, search_runs
    from pipelines.benches.resume import resume
    from pipelines.benches.tracking import tracking
    from pipelines.benches.workers import workers

    benches = {
        "tracking": tracking,
        "reading": reading,
        "resume": resume,
        "workers": workers,
        "data": data,
        "search_runs": search_runs,
    }
    rows: list[Row] = []
    console = Console()
    # A pipe or a log file has no width of its own.
    console = console if console.is_terminal else Console(width=110)
    for name in options.names or FAST + (SLOW if options.slow else ()):
        console.print(f"measuring {name}", highlight=False)
        with tempfile.TemporaryDirectory() as folder:
            rows += benches[name](Path(folder))
    console.print(table_of(rows))


def table_of(rows: list[Row]) -> Table:
    """The rows for a terminal."""
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for heading in ("bench", "seconds", "reference", "ratio", "at most", "met"):
        table.add_column(heading, justify="left" if heading == "bench" else "right")
    for row in rows:
        table.add_row(*cells(row))
    return table


def cells(row: Row) -> tuple[str, ...]:
    """One line as text; a row without a target is there to compare with."""
    target = "" if row.most_ratio is None else f"{row.most_ratio:.3f}"
    target = target if row.most_seconds is None else f"{row.most_seconds:g} s"
    return (
        row.name,
        f"{row.seconds:.3f}",
        "" if row.reference is None else f"{row.reference:.3f}",
        "" if row.ratio is None else f"{row.ratio:.3f}",
        target,
        {True: "yes", False: "no", None: ""}[row.met],
    )


if __name__ == "__main__":
    from research.cli import run

    run(main, BenchOptions)
