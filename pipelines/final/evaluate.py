"""`make evaluate`: evaluate a final run on its test days, once."""

from __future__ import annotations

from pipelines.final.options import EvaluateOptions


def main(options: EvaluateOptions) -> None:
    """Open the test days, log an `evaluation` run and print the results."""
    from research.counts import parse_count
    from research.errors import require

    fix = "give BUDGET with HORIZON, or RUN alone, as in make evaluate BUDGET=3K HORIZON=1."
    require(bool(options.run) != bool(options.budget), "BUDGET", options.budget, fix)
    if options.budget:
        parse_count(options.budget, "BUDGET", "parameters")

    from pipelines.final.evaluation import open_test_set
    from research.cli.console import console
    from research.tracking.store import open_store

    open_test_set(open_store(options.store, must_exist=True), options, console())
