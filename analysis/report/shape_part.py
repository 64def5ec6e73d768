"""What the trials say about architectures: the best shape, what contributes, whether it moves or transfers."""

from __future__ import annotations

from analysis.effects import LEGEND, curve_table, findings, importance_table, moved, transfer_findings, transfer_table
from analysis.report.document import Block, Image, Items, Section
from analysis.report.inputs import Sources
from analysis.report.tables import of_terminal


def section(sources: Sources, figures: dict[tuple[str, int], Image]) -> Section:
    """All questions' shapes; `figures` by the frontier's key."""
    blocks: list[Block] = []
    for one in sources.questions:
        blocks.append(of_terminal(curve_table(one.effects)))
        if any(one.effects.importances.values()):
            blocks.append(of_terminal(importance_table(one.effects)))
        if found := findings(one.effects):
            blocks.append(Items(items=[f"{one.title}: {line}" for line in found]))
        if one.frontier.key in figures:
            blocks.append(figures[one.frontier.key])
    if sources.transfers:
        blocks.append(of_terminal(transfer_table(sources.transfers)))
    blocks.append(Items(items=[*map(moved, sources.movements), *transfer_findings(sources.transfers), *LEGEND]))
    return Section(title="Which shape", blocks=blocks)
