"""What these runs do not establish, and what would: the part that a reader who wants to believe must not miss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analysis.report.data_part import test_days
from analysis.report.document import Commands, Items, Paragraph, Section
from analysis.report.sources import Question, Sources
from research.hints import in_store
from research.spec import count_label, parse_count

ENOUGH_FRESH = 3
MORE = 8
"""Times the largest budget: far enough for a slope to show."""


def not_established(sources: Sources) -> Section:
    """One line for each thing that somebody might read into the tables and that is not there."""
    lines = [line for one in sources.questions for line in _open(one)]
    lines += _common(sources)
    return Section(title="What was not established", blocks=[Items(items=lines)])


def _open(one: Question) -> Iterator[str]:
    frontier, judged = one.frontier, one.judgement
    if judged is None:
        yield f"{one.title}: any trend; {len(frontier.entries)} budgets are too few."
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


def _common(sources: Sources) -> list[str]:
    instruments = sorted({one.frontier.instruments for one in sources.questions})
    return [
        f"Anything about markets other than {'; '.join(instruments)}, or about other years.",
        *(
            f"{one.title}: that any of this holds on the test days; {test_days(one)} Budgets were chosen on validation days."
            for one in sources.questions
        ),
        "That a difference in nats is worth money: nothing here trades.",
    ]


def next_steps(sources: Sources, store: Path) -> Section:
    """Commands that would settle what is open, cheapest first."""
    steps = dict.fromkeys(step for one in sources.questions for step in _next(one))
    commands = [f"{in_store(store, command)}   # {why}" for command, why in steps]
    if not commands:
        return Section(title="What to run next", blocks=[Paragraph(text="Nothing here is open that a sweep could settle.")])
    why = "Each settles something that is open above; the same command goes on where a sweep stopped."
    return Section(title="What to run next", blocks=[Paragraph(text=why), Commands(lines=commands)])


def _next(one: Question) -> Iterator[tuple[str, str]]:
    frontier = one.frontier
    for sure in one.sure:
        if sure.fresh_seeds < ENOUGH_FRESH:
            yield f"make sweep BUDGET={sure.budget} HORIZON={frontier.horizon} REPLICATES={ENOUGH_FRESH}", "fresh seeds"
    counts = {entry.budget: entry.complete + entry.failed for entry in frontier.entries}
    most = max(counts.values())
    for budget in (budget for budget, count in counts.items() if count < most):
        yield f"make sweep BUDGET={budget} HORIZON={frontier.horizon} TRIALS={most}", "equal numbers of trials"
    largest = count_label(MORE * parse_count(frontier.entries[-1].budget, "BUDGET", "parameters"))
    if one.judgement is None or one.judgement.verdict.claim == "inconclusive":
        yield f"make forecast BUDGET={largest} HORIZON={frontier.horizon}", "before it is known"
        yield f"make sweep BUDGET={largest} HORIZON={frontier.horizon}", "a longer lever for the slope"
    if any(not one.effects.best_is_known(budget) for budget in one.effects.curves):
        yield f"make sweep BUDGET={frontier.entries[0].budget} HORIZON={frontier.horizon} TRIALS=+20", "which shape"
