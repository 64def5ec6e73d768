"""Champions in use and the evidence for them."""

from __future__ import annotations

from analysis.report.document import Inline, Section, Table
from analysis.report.inputs import Champion

COLUMNS = ["registered model", "version", "final run", "in use since (UTC)", "test skill", "gates"]
NOTES = ["Skill is against the training prior, on the test days of the evaluation that stood behind the promotion."]


def section(champions: list[Champion]) -> Section:
    """Return one row per model with a champion."""
    table = Table(caption="Champions", columns=COLUMNS, rows=[_row(champion) for champion in champions], notes=NOTES)
    return Section(title="In use", blocks=[table])


def _row(champion: Champion) -> list[Inline]:
    skill = "-" if champion.test_skill is None else f"{champion.test_skill:+.3f}"
    used = champion.used
    return [
        used.name,
        used.version,
        used.run_id[:12],
        used.since[:16].replace("T", " ") or "set by hand",
        skill,
        used.gates or "no gates",
    ]
