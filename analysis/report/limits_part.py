"""The report on what these runs do not establish, and which commands would settle it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from analysis.laws.forecasting import FEWEST
from analysis.report.commands import NARROWED, as_words, bundled_digests, differing, settings_of
from analysis.report.data_part import test_days
from analysis.report.document import Commands, Items, Paragraph, Section
from analysis.report.inputs import ReportInputs, ReportQuestion
from research.cli.next_steps import with_store_argument
from research.counts import count_label, parse_count

ENOUGH_FRESH = 3
MORE = 8
"""Factor over the largest budget: far enough for a slope to show."""


def not_established(inputs: ReportInputs) -> Section:
    """Return one line per conclusion that the tables do not support."""
    lines = [line for question in inputs.questions for line in _open(question)]
    lines += _common(inputs)
    return Section(title="What was not established", blocks=[Items(items=lines)])


def _open(question: ReportQuestion) -> Iterator[str]:
    frontier, judged = question.frontier, question.judgement
    if judged is None:
        yield f"{question.title}: any trend; a trend needs {FEWEST} budgets."
    elif judged.verdict.claim == "inconclusive":
        limit = f"a change below {judged.verdict.detectable:.1%} of the loss per tenfold size would have been missed"
        yield f"{question.title}: that size helps, or that it does not; {limit} more than once in five times."
    compared = [name for name in frontier.baselines if name != "prior"]
    losers = [entry.budget for entry in frontier.entries if not any(entry.against[name].high < 0 for name in compared)]
    if compared and losers:
        yield f"{question.title}: that a transformer of {', '.join(losers)} predicts better than the simplest regression."
    unknown = [budget for budget in question.effects.curves if not question.effects.best_is_known(budget)]
    if unknown:
        yield f"{question.title}: a best depth to width ratio at {', '.join(unknown)}."
    collapsed = [entry.budget for entry in frontier.entries if entry.alarm != "none"]
    if collapsed:
        yield f"{question.title}: that the best of {', '.join(collapsed)} is a forecast; it predicts nearly the same every day."


def _common(inputs: ReportInputs) -> list[str]:
    instruments = sorted({question.frontier.instruments for question in inputs.questions})
    return [
        f"Anything about markets other than {'; '.join(instruments)}, or about other years.",
        *(
            f"{question.title}: that any of this holds on the test days; {test_days(question)} "
            "Budgets were chosen on validation days."
            for question in inputs.questions
        ),
        "That a difference in nats is worth money: `make backtest` trades on the predictions, after costs.",
    ]


def next_steps(inputs: ReportInputs, store: Path) -> Section:
    """Return commands that would settle what is open, cheapest first."""
    bundled = bundled_digests(inputs)
    alone = len({question.frontier.experiment for question in inputs.questions}) == 1
    steps = dict.fromkeys(step for question in inputs.questions for step in _next(question, bundled, alone=alone))
    commands = [f"{with_store_argument(store, command)}   # {why}" for command, why in steps]
    if not commands:
        return Section(title="What to run next", blocks=[Paragraph(text="No open point that a sweep could settle.")])
    why = "Each settles an open point above; the same command continues a sweep that stopped."
    return Section(title="What to run next", blocks=[Paragraph(text=why), Commands(lines=commands)])


def _next(question: ReportQuestion, bundled: Collection[str], *, alone: bool) -> Iterator[tuple[str, str]]:
    frontier = question.frontier

    def sweep(budget: str, why: str, like: str = "", **others: str) -> tuple[str, str]:
        settings = _settings(question, like or budget, bundled)
        if like:
            # Another size has other shapes.
            settings = {name: value for name, value in settings.items() if name.lower() not in NARROWED}
        words = as_words({"BUDGET": budget, "HORIZON": str(frontier.horizon), **settings, **others})
        return f"make sweep {words}", why

    for loss in question.sure:
        if loss.fresh_seeds < ENOUGH_FRESH:
            yield sweep(loss.budget, "fresh seeds", REPLICATES=str(ENOUGH_FRESH))
    counts = {entry.budget: entry.complete + entry.failed for entry in frontier.entries}
    target = max(counts.values())
    for budget in (budget for budget, count in counts.items() if count < target):
        yield sweep(budget, "equal numbers of trials", TRIALS=str(target))
    top = frontier.entries[-1].budget
    largest = count_label(MORE * parse_count(top, "BUDGET", "parameters"))
    if question.judgement is None:
        yield sweep(largest, f"one more of the {FEWEST} budgets that a trend needs", like=top)
    elif question.judgement.verdict.claim == "inconclusive":
        experiment = "" if alone else f" ARGS='--experiment {frontier.experiment}'"
        yield f"make forecast BUDGET={largest} HORIZON={frontier.horizon}{experiment}", "before it is known"
        yield sweep(largest, "a longer lever for the slope", like=top)
    if any(not question.effects.best_is_known(budget) for budget in question.effects.curves):
        yield sweep(frontier.entries[0].budget, "which shape", TRIALS="+20")


def _settings(question: ReportQuestion, budget: str, bundled: Collection[str]) -> dict[str, str]:
    """Return the settings of the sweep at a budget that are no defaults; none if its parent run is gone."""
    for _, run in question.sweeps.iterrows():
        if str(run["budget"]) == budget:
            settings = differing(settings_of(question, run, bundled))
            settings.pop("REPLICATES", None)
            return settings
    return {}
