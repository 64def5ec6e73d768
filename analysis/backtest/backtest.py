"""`make backtest`: what acting on stored probabilities would have earned, after costs, beside buy-and-hold and volatility."""

from __future__ import annotations

from analysis.options import BacktestOptions


def main(options: BacktestOptions) -> None:
    """Read one run's predictions, print the reading, write its figure and tables, log it."""
    from research.cli.next_steps import print_next
    from research.errors import require
    from research.tracking.store import open_store

    for name in ("cost", "slippage"):
        value = getattr(options, name)
        require(0 <= value < MOST_BP, name.upper(), value, f"give basis points of 0 or more and below {MOST_BP:,}; 1 is 0.01%.")
    store = open_store(options.store, must_exist=True)

    from analysis.backtest import table as told
    from analysis.backtest.output import log_backtest, write_backtest
    from analysis.backtest.predictions import backtest_input
    from analysis.backtest.results import run_backtest
    from research.cli.console import console, short_path

    found = backtest_input(store, options)
    reading = run_backtest(store, found, cost=(options.cost + options.slippage) / 1e4, enter=options.enter)
    screen = console()
    heading = told.validation_warning(found)
    lines = told.backtest_sentences(reading)
    screen.print(heading, style="bold red" if found.split == "validation" else "bold", soft_wrap=True, highlight=False)
    for line in (
        told.describe_run(reading),
        told.describe_trade(found),
        told.assumptions(reading, options.cost, options.slippage),
    ):
        screen.print(line, soft_wrap=True, highlight=False)
    screen.print(told.backtest_table(reading))
    for line in (*lines, *told.LEGEND):
        screen.print(line, soft_wrap=True, highlight=False, markup=False)
    files = write_backtest(reading, store.root / "reports")
    screen.print(
        f"wrote {short_path(files[0])} and beside it equity, trades and measures as CSV", soft_wrap=True, highlight=False
    )
    if options.log:
        run_id = log_backtest(store, reading, files, "\n\n".join((heading, *lines)))
        screen.print(f"logged as report {run_id[:12]}", highlight=False)
    further = ("make train", "make evaluate") if found.split == "validation" else ("make ui", "make compare")
    print_next(screen, options.store, *further)


MOST_BP = 1_000
"""Costs per side of a tenth of the traded value are no costs but a mistake in the unit."""


if __name__ == "__main__":
    from research.cli.run import run

    run(main, BacktestOptions)
