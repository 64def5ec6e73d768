"""`make train`: train a sweep's best configuration on training and validation days, over fresh seeds."""

from __future__ import annotations

from pipelines.final.options import TrainOptions


def main(options: TrainOptions) -> None:
    """Train, log a `final` run with one nested run per seed and register the ensemble."""
    from research.counts import parse_count
    from research.errors import require

    fix = "give BUDGET with HORIZON, or RUN alone, as in make train BUDGET=3K HORIZON=1."
    require(bool(options.run) != bool(options.budget), "BUDGET", options.budget, fix)
    if options.budget:
        parse_count(options.budget, "BUDGET", "parameters")
    require(options.seeds >= 1, "SEEDS", options.seeds, "give 1 or more.")

    from pipelines.final.training import train_final
    from research.cli.console import console
    from research.tracking.store import open_store

    train_final(open_store(options.store, must_exist=True), options, console())
