"""`make backtest`: what trading on stored probabilities would have earned after costs, compared with simple strategies."""

from __future__ import annotations

from analysis.options import BacktestOptions

COST_LIMIT = 1_000
"""Basis points per side; a tenth of the traded value is no cost but a mistake in the unit."""


def main(options: BacktestOptions) -> None:
    """Backtest one run's predictions: print the result, write its figure and tables, log it."""
    from research.cli.next_steps import print_next
    from research.errors import require
    from research.tracking.store import open_store

    for name in ("cost", "slippage"):
        value = getattr(options, name)
        fix = f"give basis points of 0 or more and below {COST_LIMIT:,}; 1 is 0.01%."
        require(0 <= value < COST_LIMIT, name.upper(), value, fix)
    store = open_store(options.store, must_exist=True)

    from analysis.backtest import table
    from analysis.backtest.output import log_backtest, write_backtest
    from analysis.backtest.predictions import backtest_input
    from analysis.backtest.results import run_backtest
    from research.cli.console import console, print_line, short_path

    data = backtest_input(store, options)
    result = run_backtest(store, data, cost=(options.cost + options.slippage) / 1e4, enter=options.enter)
    screen = console()
    heading = table.validation_warning(data)
    sentences = table.backtest_sentences(result)
    style = "bold red" if data.split == "validation" else "bold"
    screen.print(heading, style=style, soft_wrap=True, highlight=False)
    print_line(screen, table.describe_run(result))
    print_line(screen, table.describe_trade(data))
    print_line(screen, table.assumptions(result, options.cost, options.slippage))
    screen.print(table.backtest_table(result))
    for line in (*sentences, *table.LEGEND):
        print_line(screen, line, markup=False)
    files = write_backtest(result, store.root / "reports")
    print_line(screen, f"figure {short_path(files[0])}; the same folder has equity, trades and measures as CSV")
    if options.log:
        run_id = log_backtest(store, result, files, "\n\n".join((heading, *sentences)))
        print_line(screen, f"logged as report {run_id[:12]}")
    steps = ("make train", "make evaluate") if data.split == "validation" else ("make ui", "make compare")
    print_next(screen, options.store, *steps)
