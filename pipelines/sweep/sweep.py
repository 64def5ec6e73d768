"""`make sweep`: search architectures at one budget; every trial is a nested MLflow run."""

from __future__ import annotations

from pipelines.options import SweepOptions


def main(options: SweepOptions) -> None:
    """Run a sweep from the command line."""
    from research.errors import require
    from research.models.budget import Budget

    # Told before the heavy imports, so that a typo is answered at once.
    Budget.parse(options.budget)
    require(options.trials >= 1, "TRIALS", options.trials, "give 1 or more.")

    from rich.console import Console

    from pipelines.sweep.driver import run_sweep

    console = Console()
    # A pipe or a log file has no width of its own; the table needs about a hundred columns.
    run_sweep(options, console if console.is_terminal else Console(width=110))
