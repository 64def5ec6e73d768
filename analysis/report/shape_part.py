"""What the trials say about architectures: the best shape, what contributes, whether it moves or transfers."""

from __future__ import annotations

from analysis.effects import (
    LEGEND,
    curve_table,
    effect_sentences,
    importance_table,
    shift_sentence,
    transfer_sentences,
    transfer_table,
)
from analysis.report.document import Block, Image, Items, Section
from analysis.report.inputs import ReportInputs
from analysis.report.tables import report_table


def section(sources: ReportInputs, figures: dict[tuple[str, int], Image]) -> Section:
    """All questions' shapes; `figures` by the frontier's key."""
    blocks: list[Block] = []
    for one in sources.questions:
        blocks.append(report_table(curve_table(one.effects)))
        if any(one.effects.importances.values()):
            blocks.append(report_table(importance_table(one.effects)))
        if found := effect_sentences(one.effects):
            blocks.append(Items(items=[f"{one.title}: {line}" for line in found]))
        if one.frontier.key in figures:
            blocks.append(figures[one.frontier.key])
    if sources.transfers:
        blocks.append(report_table(transfer_table(sources.transfers)))
    blocks.append(Items(items=[*map(shift_sentence, sources.movements), *transfer_sentences(sources.transfers), *LEGEND]))
    return Section(title="Which shape", blocks=blocks)
