"""`make compare`: is A better than B, which of all models may be the best, and what could these days have shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.options import CompareOptions

if TYPE_CHECKING:
    from rich.table import Table

    from analysis.results.frontier import Frontier
    from analysis.results.model_confidence_set import ConfidenceSetMember
    from analysis.results.model_pairs import Comparison

SET_LEGEND = (
    "in the set: may be the best of these; the set holds the best with 95% (Hansen, Lunde & Nason 2011, 60-day blocks).",
    "detectable: true distance to the lowest loss that these days would show in 4 of 5 studies (5% two-sided, 80% power).",
)
SELECTED = (
    "The best trial of a budget was chosen on these days, the baselines were not: that flatters the budgets in every test."
)


def main(options: CompareOptions) -> None:
    """Compare two models at every horizon, or print the model confidence set of each question."""
    from analysis.results.frontier import frontiers
    from analysis.results.model_pairs import compare, finalists, standings
    from research.cli.console import console, print_line
    from research.cli.next_steps import print_next
    from research.errors import require
    from research.tracking.store import open_store

    require(len(options.models) in (0, 2), "MODELS", " ".join(options.models), "give two, A and B, or none.")
    screen = console()
    store = open_store(options.store, must_exist=True)
    store_frontiers = frontiers(store, options.experiment)
    if options.models:
        comparisons = compare(store, store_frontiers, *options.models)
        screen.print(pairs_table(comparisons))
        lines = comparison_sentences(comparisons)
    else:
        for frontier in store_frontiers:
            screen.print(finalists(frontier)[0].question, highlight=False)
            screen.print(confidence_set_table(frontier, standings(frontier)))
        lines = list(SET_LEGEND)
    for line in (*lines, SELECTED):
        print_line(screen, line)
    print_next(screen, options.store, "make effects", "make report")


def pairs_table(comparisons: list[Comparison]) -> Table:
    """Return one row per question: paired difference, test statistics, verdict."""
    from research.cli.console import plain_table

    first, second = comparisons[0].first.title, comparisons[0].second.title
    columns = ["question", "A - B (nats)", "95% interval", "DM", "p", "Holm p", "detectable", "verdict"]
    table = plain_table(f"A = {first}, B = {second}: paired daily losses, negative where A is better", columns)
    for comparison in comparisons:
        difference, dm = comparison.tests.difference, comparison.tests.dm
        table.add_row(
            comparison.first.place,
            f"{difference.mean:+.4f}",
            f"[{difference.low:+.4f}, {difference.high:+.4f}]",
            f"{dm.statistic:+.2f}",
            p_value_text(dm.p_value),
            p_value_text(comparison.holm_p),
            f"{comparison.tests.detectable:.4f}",
            comparison.verdict,
        )
    return table


def comparison_sentences(comparisons: list[Comparison]) -> list[str]:
    """Return how to read the columns, and the power of each comparison that shows no difference."""
    questions = list(dict.fromkeys(comparison.first.question for comparison in comparisons))
    undecided = [comparison for comparison in comparisons if comparison.verdict == "no difference shown"]
    return [
        f"on {'; '.join(questions)}.",
        "interval: circular block bootstrap, 60 days. DM: Diebold-Mariano, Newey-West variance, small-sample correction. "
        "Holm p: adjusted for the rows of this table. A verdict needs both.",
        *(f"{comparison.first.place}: {_power(comparison)}" for comparison in undecided),
    ]


def _power(comparison: Comparison) -> str:
    difference, detectable = abs(comparison.tests.difference.mean), comparison.tests.detectable
    if difference < detectable:
        return (
            f"{difference:.4f} nats are less than the {detectable:.4f} that these days can show: "
            "no evidence, not evidence of equality."
        )
    return f"{difference:.4f} nats would be enough to show ({detectable:.4f}), but the two tests do not agree on it."


def p_value_text(value: float) -> str:
    """Return a p-value with three digits, or `<0.001`: a rounded 0 would be false."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def confidence_set_table(frontier: Frontier, members: list[ConfidenceSetMember]) -> Table:
    """Return one row per model, best first: loss, distance, detectable distance, p-value, membership."""
    from research.cli.console import plain_table
    from research.evaluation.forecast_tests import minimum_detectable
    from research.tracking.schema import BASELINE_TITLES

    best_losses = {entry.budget: entry.day_losses for entry in frontier.entries}
    losses = {**best_losses, **frontier.baseline_losses}
    title = f"model confidence set over {len(members)} models, {frontier.n_days:,} days"
    columns = ["model", "val_loss", "- lowest", "detectable", "p", "in the set"]
    table = plain_table(title, columns, left=["model"])
    lowest = members[0]
    for member in members:
        distance = losses[member.name] - losses[lowest.name]
        table.add_row(
            BASELINE_TITLES.get(member.name, member.name),
            f"{member.loss:.4f}",
            f"{member.loss - lowest.loss:+.4f}" if member is not lowest else "",
            f"{minimum_detectable(distance):.4f}" if member is not lowest else "",
            p_value_text(member.p_value),
            "yes" if member.is_in else "no",
            style="" if member.name in best_losses else "cyan",
        )
    return table
