"""`make bench`: cost of training, data, tracking, reading and start-up, compared with other tools."""

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
"""Benchmarks that run on an accelerator."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Measure what the platform promises: ratios and seconds, all on this machine and in this run.

    examples:
      make bench
      make bench BIG=1 DEVICE=cuda
      python -m benchmarks.run tracking reading
    """

    names: tyro.conf.Positional[tuple[Name, ...]] = ()
    """Benchmarks to run; all except the slow ones if none is named."""
    slow: bool = False
    """Also those that take minutes: MLflow's own way to read a large store."""
    big: bool = False
    """Only real training steps of a 2B model, in low memory; takes minutes and 12 GiB."""
    device: str = "cpu"
    """cpu, or cuda or mps for the benches of training alone."""
    page: Path = Path("docs/benchmarks.md")
    """File of the results page; sections of benchmarks that do not run stay."""


def main(options: BenchOptions) -> None:
    """Run the benchmarks, print one table and write the page, without use of the project's store."""
    import tempfile

    from benchmarks.gemm import gemm_peak
    from benchmarks.results_page import BenchMachine, BenchSection, write_page
    from research.cli.console import console, print_line
    from research.errors import InputError
    from research.runtime import choose_device

    device = choose_device(options.device)
    benches = _benches(device)
    sections: list[BenchSection] = []
    screen = console(150)
    for name in _selected(options):
        print_line(screen, f"measuring {name}")
        title = name if device.type == "cpu" else f"{name} on {device.type}"
        with tempfile.TemporaryDirectory() as folder:
            try:
                sections.append(BenchSection(name=title, rows=benches[name](Path(folder))))
            except InputError as missing:
                sections.append(BenchSection(name=title, rows=[], notes=[str(missing)]))
                screen.print(str(missing), style="yellow", highlight=False)
    screen.print(table_of([row for section in sections for row in section.rows]))
    write_page(sections, BenchMachine.here(gemm_peak(), device), options.page)
    print_line(screen, f"written to {options.page}")


def _selected(options: BenchOptions) -> tuple[Name, ...]:
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
    """Return the rows as a table for a terminal."""
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
