"""`make tour`: every verb once, from an empty store on bundled data to a served prediction and a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TOUR_PORT = 5077


@dataclass(frozen=True, kw_only=True)
class TourOptions:
    """Walk through the product at a tiny size: every verb once, from an empty store to a served prediction and a report.

    examples:
      make tour
      make tour FOLDER=/tmp/tour PORT=5088
    """

    folder: Path | None = None
    """An empty or new folder for the tour's store, which is kept; a new temporary one if not given."""
    port: int = TOUR_PORT
    """Port on 127.0.0.1 on which the model is served for a moment."""


def main(options: TourOptions) -> None:
    """Run the stops in order, each as the command that a user would type; stop at the first that fails."""
    import shlex
    import tempfile
    from time import monotonic

    from rich.console import Console

    from pipelines.checks.tour_steps import run_stop, stops
    from pipelines.serving.ports import require_free
    from research.cli.next_steps import as_installed
    from research.errors import InputError

    require_free(options.port, "tour", TOUR_PORT + 1)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="tapescale-tour-"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"FOLDER={folder}: not an empty folder; name one that is empty or not there yet.")
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    planned = stops(folder / "mlruns", options.port)
    begun, seconds = monotonic(), []
    for number, stop in enumerate(planned, start=1):
        console.rule(f"[bold]{number} of {len(planned)}: {stop.title}")
        console.print(
            f"{stop.why}\n\n$ {as_installed(shlex.join(stop.command))}\n", soft_wrap=True, highlight=False, markup=False
        )
        start = monotonic()
        run_stop(stop, folder / "mlruns")
        seconds.append(monotonic() - start)
    _print_end([stop.title for stop in planned], seconds, monotonic() - begun, folder / "mlruns")


def _print_end(titles: list[str], seconds: list[float], total: float, store: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from research.cli.next_steps import USUAL, print_next, with_store_argument

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("stop")
    table.add_column("seconds", justify="right")
    for title, taken in zip(titles, seconds, strict=True):
        table.add_row(title, f"{taken:.0f}")
    console = Console()
    console.rule("[bold]the tour")
    console.print(table)
    console.print(f"{total / 60:.1f} minutes; everything is in {store}", soft_wrap=True, highlight=False)
    look = f"{with_store_argument(store, 'make ui')}   {store}/reports/report-all/report.html"
    console.print(f"look  {look}", soft_wrap=True, highlight=False, markup=False)
    print_next(console, USUAL, "make sweep BUDGET=20K", "(your own store, mlruns/)", "docs/tutorial.md")
