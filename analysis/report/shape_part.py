"""The report on architectures: best shape, contributions of settings, shifts and transfer."""

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


def section(inputs: ReportInputs, figures: dict[tuple[str, int], Image]) -> Section:
    """Return the shapes of all questions; `figures` by the frontier's key."""
    blocks: list[Block] = []
    for question in inputs.questions:
        blocks.append(report_table(curve_table(question.effects)))
        if any(question.effects.importances.values()):
            blocks.append(report_table(importance_table(question.effects)))
        if sentences := effect_sentences(question.effects):
            blocks.append(Items(items=[f"{question.title}: {line}" for line in sentences]))
        if question.frontier.key in figures:
            blocks.append(figures[question.frontier.key])
    if inputs.transfers:
        blocks.append(report_table(transfer_table(inputs.transfers)))
    blocks.append(Items(items=[*map(shift_sentence, inputs.optimum_shifts), *transfer_sentences(inputs.transfers), *LEGEND]))
    return Section(title="Which shape", blocks=blocks)
