"""Terminal tables as report tables, so that each number is computed once."""

from __future__ import annotations

from rich import table as rich_table

from analysis.report.document import Table


def report_table(table: rich_table.Table) -> Table:
    """Return a report table with the columns and cells of a terminal table."""
    columns = [[str(cell).strip() for cell in column.cells] for column in table.columns]
    return Table(
        caption=str(table.title or ""),
        columns=[str(column.header) for column in table.columns],
        rows=[list(row) for row in zip(*columns, strict=True)],
    )
