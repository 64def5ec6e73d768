"""`make tour`: run every verb once on bundled data, from an empty store to a served prediction and a report."""

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
    """Port on 127.0.0.1 on which the model is served briefly."""


def main(options: TourOptions) -> None:
    """Run the steps in order, each as the command that a user would type; end at the first failure."""
    import shlex
    import tempfile
    from time import monotonic

    from pipelines.checks.tour_steps import run_stop, stops
    from pipelines.serving.ports import require_free
    from research.cli.console import console, print_line
    from research.cli.next_steps import as_installed
    from research.errors import InputError

    require_free(options.port, "tour", TOUR_PORT + 1)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="tapescale-tour-"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"FOLDER={folder}: not an empty folder; give an empty or new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    screen = console()
    planned = stops(folder / "mlruns", options.port)
    begun, seconds = monotonic(), []
    for number, stop in enumerate(planned, start=1):
        screen.rule(f"[bold]{number} of {len(planned)}: {stop.title}")
        print_line(screen, f"{stop.why}\n\n$ {as_installed(shlex.join(stop.command))}\n", markup=False)
        start = monotonic()
        run_stop(stop, folder / "mlruns")
        seconds.append(monotonic() - start)
    _print_end([stop.title for stop in planned], seconds, monotonic() - begun, folder / "mlruns")


def _print_end(titles: list[str], seconds: list[float], total: float, store: Path) -> None:
    from research.cli.console import console, duration, plain_table, print_line
    from research.cli.next_steps import USUAL, print_next, with_store_argument

    table = plain_table("", ("step", "time"), left=("step",))
    for title, elapsed in zip(titles, seconds, strict=True):
        table.add_row(title, duration(elapsed))
    screen = console()
    screen.rule("[bold]the tour")
    screen.print(table)
    print_line(screen, f"{duration(total)}; all results are in {store}")
    look = f"{with_store_argument(store, 'make ui')}   {store}/reports/report-all/report.html"
    print_line(screen, f"look  {look}", markup=False)
    print_next(screen, USUAL, "make sweep BUDGET=20K", "(your own store, mlruns/)", "docs/tutorial.md")
