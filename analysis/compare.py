"""`make compare`: is A better than B, and which of all may be the best? Says what these days could have shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.options import CompareOptions

if TYPE_CHECKING:
    from rich.table import Table

    from analysis.results.frontier import Frontier
    from analysis.results.model_confidence_set import ConfidenceSetMember
    from analysis.results.model_pairs import Comparison


def main(options: CompareOptions) -> None:
    """Compare two models, or print the confidence set of each question."""
    from analysis.results.frontier import frontiers
    from analysis.results.model_pairs import compare, finalists, standings
    from research.cli.console import console
    from research.cli.next_steps import print_next
    from research.errors import require
    from research.tracking.store import open_store

    require(len(options.models) in (0, 2), "MODELS", " ".join(options.models), "give two, A and B, or none.")
    screen = console()
    store = open_store(options.store, must_exist=True)
    found = frontiers(store, options.experiment)
    if options.models:
        compared = compare(store, found, *options.models)
        screen.print(pairs_table(compared))
        lines = findings(compared)
    else:
        for frontier in found:
            screen.print(finalists(frontier)[0].question, highlight=False)
            screen.print(set_table(frontier, standings(frontier)))
        lines = list(SET_LEGEND)
    for line in (*lines, SELECTED):
        screen.print(line, soft_wrap=True, highlight=False)
    print_next(screen, options.store, "make effects", "make report")


SET_LEGEND = (
    "in the set: may be the best of these; the set holds the best with 95% (Hansen, Lunde & Nason 2011, 60-day blocks).",
    "detectable: true distance to the lowest loss that these days would show in 4 of 5 studies (5% two-sided, 80% power).",
)
SELECTED = (
    "The best trial of a budget was chosen on these days, the baselines were not: that flatters the budgets in every test."
)


def pairs_table(compared: list[Comparison]) -> Table:
    """One row per question."""
    from research.cli.console import plain_table

    first, second = compared[0].first.title, compared[0].second.title
    columns = ["question", "A - B (nats)", "95% interval", "DM", "p", "Holm p", "detectable", "verdict"]
    table = plain_table(f"A = {first}, B = {second}: paired daily losses, negative where A is better", columns)
    for one in compared:
        found, dm = one.tests.difference, one.tests.dm
        table.add_row(
            one.first.place,
            f"{found.mean:+.4f}",
            f"[{found.low:+.4f}, {found.high:+.4f}]",
            f"{dm.statistic:+.2f}",
            probability(dm.p_value),
            probability(one.holm_p),
            f"{one.tests.detectable:.4f}",
            one.verdict,
        )
    return table


def findings(compared: list[Comparison]) -> list[str]:
    """How to read the columns, and a verdict for those that are too small to see."""
    questions = list(dict.fromkeys(one.first.question for one in compared))
    lines = [f"{one.first.place}: {_power(one)}" for one in compared if one.verdict == "no difference shown"]
    return [
        f"on {'; '.join(questions)}.",
        "interval: circular block bootstrap, 60 days. DM: Diebold-Mariano, Newey-West variance, small-sample correction. "
        "Holm p: adjusted for the rows of this table. A verdict needs both.",
        *lines,
    ]


def _power(one: Comparison) -> str:
    seen, least = abs(one.tests.difference.mean), one.tests.detectable
    if seen < least:
        return f"{seen:.4f} nats are less than the {least:.4f} that these days can show: no evidence, not evidence of equality."
    return f"{seen:.4f} nats would be enough to show ({least:.4f}), but the two tests do not agree on it."


def probability(value: float) -> str:
    """Three digits, and never a 0 that it is not."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def set_table(frontier: Frontier, found: list[ConfidenceSetMember]) -> Table:
    """Best first: loss, p-value, whether it may be the best, what the days could have told."""
    from research.cli.console import plain_table
    from research.evaluation.forecast_tests import minimum_detectable
    from research.tracking.schema import BASELINE_TITLES

    best = {entry.budget: entry.day_losses for entry in frontier.entries}
    losses = {**best, **frontier.baseline_losses}
    title = f"model confidence set over {len(found)} models, {frontier.n_days:,} days"
    table = plain_table(title, ["model", "val_loss", "- lowest", "detectable", "p", "in the set"])
    table.columns[0].justify = "left"
    for one in found:
        apart = losses[one.name] - losses[found[0].name]
        table.add_row(
            BASELINE_TITLES.get(one.name, one.name),
            f"{one.loss:.4f}",
            f"{one.loss - found[0].loss:+.4f}" if one is not found[0] else "",
            f"{minimum_detectable(apart):.4f}" if one is not found[0] else "",
            probability(one.p_value),
            "yes" if one.is_in else "no",
            style="" if one.name in best else "cyan",
        )
    return table


if __name__ == "__main__":
    from research.cli.run import run

    run(main, CompareOptions)
