"""`make bench`: what training, data, tracking, reading and starting cost, beside what others pay for the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from benchmarks.harness import cells

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from rich.table import Table

    from benchmarks.harness import Measurement

Name = Literal[
    "training",
    "stacks",
    "optimizer",
    "patch_tst",
    "data",
    "workers",
    "tracking",
    "reading",
    "analysing",
    "resume",
    "start_up",
    "search_runs",
    "big",
]
SLOW: tuple[Name, ...] = ("search_runs",)
FAST: tuple[Name, ...] = (
    "training",
    "stacks",
    "optimizer",
    "patch_tst",
    "data",
    "workers",
    "tracking",
    "reading",
    "analysing",
    "resume",
    "start_up",
)
ON_A_DEVICE: tuple[Name, ...] = ("training", "stacks")
"""Benches of what an accelerator computes."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Measure what the platform promises: ratios and seconds, all on this machine and in this run.

    examples:
      make bench
      make bench BIG=1 DEVICE=cuda
      python -m benchmarks.run tracking reading
    """

    names: tyro.conf.Positional[tuple[Name, ...]] = ()
    """Which benches; all but the slow ones if none is named."""
    slow: bool = False
    """Also those that take minutes: MLflow's own way to read a large store."""
    big: bool = False
    """Only real training steps of a 2B model, in low memory; takes minutes and 12 GiB."""
    device: str = "cpu"
    """cpu, or cuda or mps for the benches of training alone."""
    page: Path = Path("docs/benchmarks.md")
    """Where the table is written for readers; a section of a bench that does not run stays."""


def main(options: BenchOptions) -> None:
    """Run benches, print one table and write the page; nothing of it touches the store of the project."""
    import tempfile

    from rich.console import Console

    from benchmarks.gemm import gemm_peak
    from benchmarks.results_page import BenchMachine, BenchSection, write_page
    from research.errors import InputError
    from research.runtime import choose_device

    device = choose_device(options.device)
    benches = _benches(device)
    sections: list[BenchSection] = []
    console = Console()
    # A pipe or a log file has no width of its own.
    console = console if console.is_terminal else Console(width=150)
    for name in _asked_for(options):
        console.print(f"measuring {name}", highlight=False)
        title = name if device.type == "cpu" else f"{name} on {device.type}"
        with tempfile.TemporaryDirectory() as folder:
            try:
                sections.append(BenchSection(name=title, rows=benches[name](Path(folder))))
            except InputError as missing:
                sections.append(BenchSection(name=title, rows=[], notes=[str(missing)]))
                console.print(str(missing), style="yellow", highlight=False)
    console.print(table_of([row for section in sections for row in section.rows]))
    write_page(sections, BenchMachine.here(gemm_peak(), device), options.page)
    console.print(f"written to {options.page}", highlight=False)


def _asked_for(options: BenchOptions) -> tuple[Name, ...]:
    if options.big:
        return ("big",)
    usual = FAST if options.device == "cpu" else ON_A_DEVICE
    return options.names or usual + (SLOW if options.slow else ())


def _benches(device: torch.device) -> dict[str, Callable[[Path], list[Measurement]]]:
    from functools import partial

    from benchmarks.analysis_commands import analysing
    from benchmarks.data import data
    from benchmarks.read_store import reading, search_runs
    from benchmarks.resume import resume
    from benchmarks.start_up import start_up
    from benchmarks.tracking import tracking
    from benchmarks.train_2b import big
    from benchmarks.training import optimizer, patch_tst, stacks, training
    from benchmarks.workers import workers

    return {
        "training": partial(training, device=device),
        "stacks": partial(stacks, device=device),
        "optimizer": optimizer,
        "patch_tst": patch_tst,
        "data": data,
        "workers": workers,
        "tracking": tracking,
        "reading": reading,
        "analysing": analysing,
        "resume": resume,
        "start_up": start_up,
        "search_runs": search_runs,
        "big": big,
    }


def table_of(rows: list[Measurement]) -> Table:
    """The rows for a terminal."""
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for heading in ("bench", "seconds", "reference", "ratio", "at most", "met"):
        table.add_column(heading, justify="left" if heading == "bench" else "right")
    for row in rows:
        table.add_row(*cells(row))
    return table


if __name__ == "__main__":
    import sys

    from research.cli.run import run

    run(main, sys.argv[1:], "bench")
