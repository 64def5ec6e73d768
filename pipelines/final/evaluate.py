"""`make evaluate`: the one look at the test days that a final run gets."""

from __future__ import annotations

from pipelines.final.options import EvaluateOptions


def main(options: EvaluateOptions) -> None:
    """Open the test days, log an `evaluation` run, print what they say."""
    from research.counts import parse_count
    from research.errors import require

    fix = "give BUDGET with HORIZON, or RUN alone, as in make evaluate BUDGET=3K HORIZON=1."
    require(bool(options.run) != bool(options.budget), "BUDGET", options.budget, fix)
    if options.budget:
        parse_count(options.budget, "BUDGET", "parameters")

    from rich.console import Console

    from pipelines.final.evaluation import open_test_set
    from research.tracking.store import open_store

    console = Console()
    open_test_set(open_store(options.store, must_exist=True), options, console if console.is_terminal else Console(width=110))
