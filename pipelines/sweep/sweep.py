"""`make sweep`: search architectures at one budget; every trial is a nested MLflow run."""

from __future__ import annotations

from pipelines.options import SweepOptions


def main(options: SweepOptions) -> None:
    """Run a sweep from the command line."""
    from research.errors import require
    from research.models.budget import Budget

    # Checked before the heavy imports, so that a typo is reported at once.
    Budget.parse(options.budget)
    require(options.trials >= 1, "TRIALS", options.trials, "give 1 or more.")

    from pipelines.sweep.driver import run_sweep
    from research.cli.console import console

    run_sweep(options, console(110))
