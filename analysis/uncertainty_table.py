"""The second table of `make leaderboard`: how certain each loss is, by layer of noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.results.uncertainty import loss_uncertainties
from research.cli.console import plain_table
from research.tracking.schema import baseline_titles

if TYPE_CHECKING:
    from rich.table import Table

    from analysis.results.frontier import Frontier
    from analysis.results.uncertainty import LossUncertainty


def uncertainty_table(frontier: Frontier) -> Table:
    """Return one row per budget, then the baselines, which were not chosen on these days."""
    uncertainties = loss_uncertainties(frontier)
    n = uncertainties[0].n
    columns = ["budget", "naive best", f"best of {n}" if n else "best of n", "fresh seeds", "flattered by"]
    noise = ["search", "seed", "days", "random trials"]
    table = plain_table("uncertainty: loss, and the standard error from each layer of noise", [*columns, *noise])
    for entry, loss in zip(frontier.entries, uncertainties, strict=True):
        fresh = f"{loss.fresh_mean:.4f} ± {_number(loss.fresh_error, '.4f')} ({loss.fresh_seeds})" if loss.fresh_seeds else "-"
        table.add_row(
            loss.budget,
            f"{loss.naive_best:.4f}",
            _number(loss.expected_best, ".4f"),
            fresh,
            _number(-loss.curse, "+.4f"),
            _number(loss.search, ".4f"),
            _number(loss.seed, ".4f"),
            _number(loss.validation, ".4f"),
            f"{loss.random_trials} of {entry.complete}",
        )
    for name, title in baseline_titles(frontier.baselines).items():
        table.add_row(title, f"{frontier.baselines[name]:.4f}", *[""] * 7, style="cyan")
    return table


LEGEND = (
    "naive best: lowest loss of all trials, chosen for it. best of n: expected lowest loss of n random trials, the same n at "
    "every budget. fresh seeds: the winner on seeds it was not chosen on.",
    "search: other random trials (standard error of best of n). seed: another seed of one trial (standard deviation). "
    "days: other validation days (standard error of the paired distance to the strongest baseline).",
    "Each layer alone; none contains another. docs/reading-results.md explains which to trust for which claim.",
)
"""Legend of the columns, the same for every table."""


def uncertainty_sentences(frontier: Frontier) -> list[str]:
    """Return what is known about the choice of the winners, and how to measure what is unknown."""
    uncertainties = loss_uncertainties(frontier)
    n = uncertainties[0].n
    missing = ", ".join(loss.budget for loss in uncertainties if not loss.random_trials)
    if missing:
        line = f"best of n: unknown, {missing} has no random trial; search with --random-share 0.4, the default."
    else:
        budgets = ", ".join(loss.budget for loss in uncertainties if loss.random_trials == n)
        line = f"best of {n}: {budgets} had no more random trials; there it is simply their best, its error 15-40% too small."
    return [line, *_winners_curse(uncertainties)]


def _winners_curse(uncertainties: list[LossUncertainty]) -> list[str]:
    """Return the winner's curse of the replicated budgets, and how to measure that of the others."""
    measured = [f"{loss.budget} {-loss.curse:+.4f}" for loss in uncertainties if loss.fresh_seeds]
    lines = [f"Winner's curse (mean of fresh seeds - naive best): {', '.join(measured)} nats."] if measured else []
    missing = [loss.budget for loss in uncertainties if not loss.fresh_seeds]
    if missing:
        fix = "run the same sweep again with REPLICATES=3, which trains only the replicates."
        lines.append(f"Winner's curse unknown for {', '.join(missing)}: no fresh seeds of the best trial; {fix}")
    return lines


def _number(value: float, form: str) -> str:
    return f"{value:{form}}" if value == value else "-"
