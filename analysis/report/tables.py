"""Tables that a terminal shows, as tables of a report: the numbers are told once."""

from __future__ import annotations

from rich import table as rich_table

from analysis.report.document import Table


def report_table(shown: rich_table.Table) -> Table:
    """The same columns and cells."""
    columns = [[str(cell).strip() for cell in column.cells] for column in shown.columns]
    return Table(
        caption=str(shown.title or ""),
        columns=[str(column.header) for column in shown.columns],
        rows=[list(row) for row in zip(*columns, strict=True)],
    )
