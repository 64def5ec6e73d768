"""The second table of `make leaderboard`: how sure each loss is, by layer of noise, and what to do where it is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.results.uncertainty import sureness
from research.cli.console import plain_table
from research.tracking.schema import baseline_titles

if TYPE_CHECKING:
    from rich.table import Table

    from analysis.results.frontier import Frontier
    from analysis.results.uncertainty import LossUncertainty


def table_of(frontier: Frontier) -> Table:
    """One row per budget, then the baselines, which nothing was chosen for."""
    found = sureness(frontier)
    n = found[0].n
    columns = ["budget", "naive best", f"best of {n}" if n else "best of n", "fresh seeds", "flattered by"]
    noise = ["search", "seed", "days", "random trials"]
    table = plain_table("how sure: loss, and the standard error that each layer of noise gives it", [*columns, *noise])
    for one in found:
        table.add_row(
            one.budget,
            f"{one.naive_best:.4f}",
            _number(one.expected_best, ".4f"),
            f"{one.fresh_mean:.4f} ± {_number(one.fresh_error, '.4f')} ({one.fresh_seeds})" if one.fresh_seeds else "-",
            _number(-one.curse, "+.4f"),
            _number(one.search, ".4f"),
            _number(one.seed, ".4f"),
            _number(one.validation, ".4f"),
            f"{one.random_trials} of {_tried(frontier, one)}",
        )
    for name, title in baseline_titles(frontier.baselines).items():
        table.add_row(title, f"{frontier.baselines[name]:.4f}", *[""] * 7, style="cyan")
    return table


LEGEND = (
    "naive best: lowest loss of all trials, chosen for it. best of n: expected lowest loss of n random trials, the same n at "
    "every budget. fresh seeds: the winner on seeds it was not chosen on.",
    "search: had other random trials been drawn (standard error of best of n). seed: had one trial had another seed (standard "
    "deviation). days: had other days been validated (standard error of the paired distance to the strongest baseline).",
    "Each layer alone; none contains another. docs/reading-results.md says which to trust for which claim.",
)
"""What the columns mean, the same for every table."""


def findings(frontier: Frontier) -> list[str]:
    """What these runs say of the choice of the winners, and what they cannot say."""
    found = sureness(frontier)
    n = found[0].n
    missing = ", ".join(one.budget for one in found if not one.random_trials)
    if missing:
        return [
            f"best of n: unknown, {missing} has no random trial; search with --random-share 0.4, the default.",
            *_curse(found),
        ]
    single = ", ".join(one.budget for one in found if one.random_trials == n)
    return [
        f"best of {n}: all random trials that {single} had; there it is plainly their best, its error 15-40% too small.",
        *_curse(found),
    ]


def _curse(found: list[LossUncertainty]) -> list[str]:
    """The winner's curse where it was measured, and how to measure it elsewhere."""
    told = [f"{one.budget} {-one.curse:+.4f}" for one in found if one.fresh_seeds]
    lines = [f"Winner's curse (mean of fresh seeds - naive best): {', '.join(told)} nats."] if told else []
    missing = [one.budget for one in found if not one.fresh_seeds]
    if missing:
        how = "run the same sweep again with REPLICATES=3, which trains nothing else anew."
        lines.append(f"Winner's curse unknown for {', '.join(missing)}: no fresh seeds of the best trial; {how}")
    return lines


def _tried(frontier: Frontier, one: LossUncertainty) -> int:
    return next(entry.complete for entry in frontier.entries if entry.budget == one.budget)


def _number(value: float, form: str) -> str:
    return f"{value:{form}}" if value == value else "-"
