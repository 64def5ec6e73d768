"""`make forecast`: the loss of a budget that has not been tried, registered in the store before its sweep exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.options import ForecastOptions

if TYPE_CHECKING:
    from rich.table import Table

    from analysis.results.frontier import Frontier
    from analysis.results.preregistered import PreregisteredForecast

LEGEND = (
    "forecast: lowest val_loss of the coming sweep's trials, 95% interval with seed, search and model-form uncertainty, as "
    "noisy as the sweeps that it was made from.",
    "score: interval score (Gneiting & Raftery 2007), width plus 40 times the distance outside: small is good.",
)


def main(options: ForecastOptions) -> None:
    """Register a forecast for every question of the options, then print all forecasts and their scores."""
    from analysis.laws.forecasting import FEWEST
    from analysis.results.frontier import frontiers
    from analysis.results.preregistered import load_forecasts, make_forecast, register_forecast
    from research.cli.console import console, print_line
    from research.cli.next_steps import print_next
    from research.errors import require
    from research.tracking.store import open_store

    screen = console()
    store = open_store(options.store, must_exist=True)
    selected = [frontier for frontier in frontiers(store, options.experiment) if options.horizon in (None, frontier.horizon)]
    require(bool(selected), "HORIZON", options.horizon, "no finished trial of it; see make leaderboard for those that have.")
    # A question with a sweep or two of its own does not keep the others from theirs.
    ready = [frontier for frontier in selected if len(frontier.entries) >= FEWEST] or selected
    if options.budget:
        # All are made before the first is written: a forecast that cannot be made leaves nothing behind.
        forecasts = [make_forecast(store, frontier, options.budget) for frontier in ready]
        for frontier, forecast in zip(ready, forecasts, strict=True):
            register_forecast(store, frontier, options.budget, forecast)
    by_key = load_forecasts(store, selected)
    for frontier in selected:
        screen.print(forecast_table(frontier, by_key.get(frontier.key, [])))
    for frontier in (frontier for frontier in selected if options.budget and frontier not in ready):
        budgets = ", ".join(entry.budget for entry in frontier.entries)
        question = f"{frontier.experiment}, horizon {frontier.horizon}"
        print_line(screen, f"no forecast for {question}: it has {budgets} only, a forecast needs {FEWEST} budgets.")
    for line in LEGEND:
        print_line(screen, line)
    larger = f"make sweep BUDGET={options.budget}" if options.budget else "make forecast BUDGET=<a larger size>"
    later = ["make forecast"] if options.budget else []
    print_next(screen, options.store, larger, *later, "make report")


def forecast_table(frontier: Frontier, forecasts: list[PreregisteredForecast]) -> Table:
    """Return one row per forecast, oldest first."""
    from analysis.results.preregistered import MEANINGS
    from research.cli.console import plain_table

    title = f"{frontier.experiment}, horizon {frontier.horizon}, study {frontier.study[:6]}: forecasts"
    columns = ["budget", "made", "from budgets", "forecast", "95%", "observed", "error", "score", "state"]
    table = plain_table(title, columns)
    for entry in forecasts:
        forecast, score = entry.forecast, entry.score
        inside = "" if score is None else " inside" if score.inside else " outside"
        table.add_row(
            entry.budget,
            f"{entry.made:%Y-%m-%d %H:%M}",
            f"{len(forecast.n)}",
            f"{forecast.loss:.4f}",
            f"[{forecast.low:.4f}, {forecast.high:.4f}]",
            f"{entry.observed:.4f}{inside}" if entry.observed is not None else "",
            f"{score.signed_error:+.2%}" if score else "",
            f"{score.interval_score:.4f}" if score else "",
            MEANINGS[entry.state],
        )
    return table
