"""`make promote`: make a tested final run champion if it passes every gate."""

from __future__ import annotations

from pipelines.registry.options import PromoteOptions


def main(options: PromoteOptions) -> None:
    """Print the gates, record them on the version and move the alias."""
    from research.counts import parse_count
    from research.errors import InputError, require

    if sum(map(bool, (options.budget, options.run, options.model))) != 1:
        raise InputError("BUDGET, RUN, MODEL: give one of them: BUDGET with HORIZON, RUN, or MODEL with or without VERSION.")
    require(not options.version or bool(options.model), "VERSION", options.version, "give its MODEL too.")
    if options.budget:
        parse_count(options.budget, "BUDGET", "parameters")

    from pipelines.registry.promotion import promote_candidate
    from research.cli.console import console
    from research.tracking.store import open_store

    promote_candidate(open_store(options.store, must_exist=True), options, console())
