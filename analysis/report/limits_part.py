"""What these runs do not establish, and what would: the part that a reader who wants to believe must not miss."""

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
"""Times the largest budget: far enough for a slope to show."""


def not_established(sources: ReportInputs) -> Section:
    """One line for each thing that somebody might read into the tables and that is not there."""
    lines = [line for one in sources.questions for line in _open(one)]
    lines += _common(sources)
    return Section(title="What was not established", blocks=[Items(items=lines)])


def _open(one: ReportQuestion) -> Iterator[str]:
    frontier, judged = one.frontier, one.judgement
    if judged is None:
        yield f"{one.title}: any trend; it takes {FEWEST} budgets."
    elif judged.verdict.claim == "inconclusive":
        least = f"a change below {judged.verdict.detectable:.1%} of the loss per tenfold size would have been missed"
        yield f"{one.title}: that size helps, or that it does not; {least} more than once in five times."
    rivals = [name for name in frontier.baselines if name != "prior"]
    losers = [entry.budget for entry in frontier.entries if not any(entry.against[name].high < 0 for name in rivals)]
    if rivals and losers:
        yield f"{one.title}: that a transformer of {', '.join(losers)} knows more than the simplest regression does."
    unknown = [budget for budget in one.effects.curves if not one.effects.best_is_known(budget)]
    if unknown:
        yield f"{one.title}: a best depth to width ratio at {', '.join(unknown)}."
    collapsed = [entry.budget for entry in frontier.entries if entry.alarm != "none"]
    if collapsed:
        yield f"{one.title}: that the best of {', '.join(collapsed)} is a forecast at all; it says nearly the same every day."


def _common(sources: ReportInputs) -> list[str]:
    instruments = sorted({one.frontier.instruments for one in sources.questions})
    return [
        f"Anything about markets other than {'; '.join(instruments)}, or about other years.",
        *(
            f"{one.title}: that any of this holds on the test days; {test_days(one)} Budgets were chosen on validation days."
            for one in sources.questions
        ),
        "That a difference in nats is worth money: nothing here trades.",
    ]


def next_steps(sources: ReportInputs, store: Path) -> Section:
    """Commands that would settle what is open, cheapest first."""
    bundled = bundled_digests(sources)
    only = len({one.frontier.experiment for one in sources.questions}) == 1
    steps = dict.fromkeys(step for one in sources.questions for step in _next(one, bundled, alone=only))
    commands = [f"{with_store_argument(store, command)}   # {why}" for command, why in steps]
    if not commands:
        return Section(title="What to run next", blocks=[Paragraph(text="Nothing here is open that a sweep could settle.")])
    why = "Each settles something that is open above; the same command goes on where a sweep stopped."
    return Section(title="What to run next", blocks=[Paragraph(text=why), Commands(lines=commands)])


def _next(one: ReportQuestion, bundled: Collection[str], *, alone: bool) -> Iterator[tuple[str, str]]:
    frontier = one.frontier

    def sweep(budget: str, why: str, like: str = "", **others: str) -> tuple[str, str]:
        settings = _told(one, like or budget, bundled)
        if like:
            # Another size has other shapes.
            settings = {name: value for name, value in settings.items() if name.lower() not in NARROWED}
        told = as_words({"BUDGET": budget, "HORIZON": str(frontier.horizon), **settings, **others})
        return f"make sweep {told}", why

    for sure in one.sure:
        if sure.fresh_seeds < ENOUGH_FRESH:
            yield sweep(sure.budget, "fresh seeds", REPLICATES=str(ENOUGH_FRESH))
    counts = {entry.budget: entry.complete + entry.failed for entry in frontier.entries}
    most = max(counts.values())
    for budget in (budget for budget, count in counts.items() if count < most):
        yield sweep(budget, "equal numbers of trials", TRIALS=str(most))
    top = frontier.entries[-1].budget
    largest = count_label(MORE * parse_count(top, "BUDGET", "parameters"))
    if one.judgement is None:
        yield sweep(largest, f"one more of the {FEWEST} budgets that a trend takes", like=top)
    elif one.judgement.verdict.claim == "inconclusive":
        which = "" if alone else f" ARGS='--experiment {frontier.experiment}'"
        yield f"make forecast BUDGET={largest} HORIZON={frontier.horizon}{which}", "before it is known"
        yield sweep(largest, "a longer lever for the slope", like=top)
    if any(not one.effects.best_is_known(budget) for budget in one.effects.curves):
        yield sweep(frontier.entries[0].budget, "which shape", TRIALS="+20")


def _told(one: ReportQuestion, budget: str, bundled: Collection[str]) -> dict[str, str]:
    """What the sweep of this budget was told; nothing where its parent run is gone."""
    for _, run in one.sweeps.iterrows():
        if str(run["budget"]) == budget:
            told = differing(settings_of(one, run, bundled))
            told.pop("REPLICATES", None)
            return told
    return {}
