"""Which models are in use, and on what evidence."""

from __future__ import annotations

from analysis.report.document import Inline, Section, Table
from analysis.report.inputs import Champion

COLUMNS = ["registered model", "version", "final run", "in use since (UTC)", "test skill", "gates"]
NOTES = ["Skill is against the training prior, on the test days of the evaluation that stood behind the promotion."]


def section(champions: list[Champion]) -> Section:
    """One row per model that has a champion."""
    table = Table(caption="Champions", columns=COLUMNS, rows=[_row(one) for one in champions], notes=NOTES)
    return Section(title="In use", blocks=[table])


def _row(one: Champion) -> list[Inline]:
    skill = "-" if one.test_skill is None else f"{one.test_skill:+.3f}"
    used = one.used
    return [
        used.name,
        used.version,
        used.run_id[:12],
        used.since[:16].replace("T", " ") or "set by hand",
        skill,
        used.gates or "not asked",
    ]
