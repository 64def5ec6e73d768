"""`make forecast`: the loss of a budget that has not been tried, sealed in the store before its sweep exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.options import ForecastOptions

if TYPE_CHECKING:
    from rich.table import Table

    from analysis.results.frontier import Frontier
    from analysis.results.preregistered import PreregisteredForecast


def main(options: ForecastOptions) -> None:
    """Seal a forecast of every question that was asked for, then show all of them and how they did."""
    from analysis.laws.forecasting import FEWEST
    from analysis.results.frontier import frontiers
    from analysis.results.preregistered import load_forecasts, make_forecast, register_forecast
    from research.cli.console import console
    from research.cli.next_steps import print_next
    from research.errors import require
    from research.tracking.store import open_store

    screen = console()
    store = open_store(options.store, must_exist=True)
    found = [one for one in frontiers(store, options.experiment) if options.horizon in (None, one.horizon)]
    require(bool(found), "HORIZON", options.horizon, "no finished trial of it; see make leaderboard for those that have.")
    # A question with a sweep or two of its own does not keep the others from theirs.
    ready = [one for one in found if len(one.entries) >= FEWEST] or found
    if options.budget:
        # All are made before the first is written: one that cannot be made leaves nothing behind.
        made = [make_forecast(store, frontier, options.budget) for frontier in ready]
        for frontier, one in zip(ready, made, strict=True):
            register_forecast(store, frontier, options.budget, one)
    by_key = load_forecasts(store, found)
    for frontier in found:
        screen.print(table_of(frontier, by_key.get(frontier.key, [])))
    for frontier in (one for one in found if options.budget and one not in ready):
        there = ", ".join(entry.budget for entry in frontier.entries)
        where = f"{frontier.experiment}, horizon {frontier.horizon}"
        screen.print(f"none made for {where}: it has {there} only, a forecast takes {FEWEST} budgets.", soft_wrap=True)
    for line in LEGEND:
        screen.print(line, soft_wrap=True, highlight=False)
    larger = f"make sweep BUDGET={options.budget}" if options.budget else "make forecast BUDGET=<a larger size>"
    later = ["make forecast"] if options.budget else []
    print_next(screen, options.store, larger, *later, "make report")


LEGEND = (
    "forecast: lowest val_loss of the coming sweep's trials, 95% interval with seed, search and model-form uncertainty, as "
    "noisy as the sweeps that it was made from.",
    "score: interval score (Gneiting & Raftery 2007), width plus 40 times the distance outside: small is good.",
)


def table_of(frontier: Frontier, made: list[PreregisteredForecast]) -> Table:
    """One row per forecast, oldest first."""
    from analysis.results.preregistered import MEANINGS
    from research.cli.console import plain_table

    title = f"{frontier.experiment}, horizon {frontier.horizon}, study {frontier.study[:6]}: forecasts"
    table = plain_table(title, ["budget", "made", "from budgets", "forecast", "95%", "found", "error", "score", "state"])
    for one in made:
        said = one.forecast
        inside = "" if one.score is None else " inside" if one.score.inside else " outside"
        table.add_row(
            one.budget,
            f"{one.made:%Y-%m-%d %H:%M}",
            f"{len(said.n)}",
            f"{said.loss:.4f}",
            f"[{said.low:.4f}, {said.high:.4f}]",
            f"{one.observed:.4f}{inside}" if one.observed is not None else "",
            f"{one.score.signed_error:+.2%}" if one.score else "",
            f"{one.score.interval_score:.4f}" if one.score else "",
            MEANINGS[one.state],
        )
    return table


if __name__ == "__main__":
    from research.cli.run import run

    run(main, ForecastOptions)
