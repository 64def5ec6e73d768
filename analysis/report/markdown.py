"""A report as Markdown, with its figures as files."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.report.document import Block, Commands, Image, Inline, Items, Link, Paragraph, ReportDocument, Table, Text, parts


def page(report: ReportDocument, figures: str = "figures") -> str:
    """Return the text; `figures` is the folder of its figures."""
    sections = "".join(f"## {section.title}\n\n{_blocks(section.blocks, figures)}" for section in report.sections)
    return f"# {report.title}\n\n{_blocks(report.summary, figures)}{sections}---\n\n{_inline(report.made)}\n"


def _blocks(blocks: Sequence[Block], figures: str) -> str:
    return "".join(f"{_block(block, figures)}\n\n" for block in blocks)


def _block(block: Block, figures: str) -> str:
    match block:
        case Paragraph(text=text, tone=tone):
            return _text(text) if tone == "plain" else f"> {_text(text)}"
        case Items(items=items):
            return "\n".join(f"- {_text(item)}" for item in items)
        case Commands(lines=lines):
            return "\n".join(("```", *lines, "```"))
        case Image(name=name, caption=caption, alternative=alternative):
            return f"![{alternative}]({figures}/{name}.png)\n\n*{_inline(caption)}*"
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    marks = [":--", *["--:"] * (len(table.columns) - 1)]
    rows = [table.columns, marks, *([_cell(cell) for cell in row] for row in table.rows)]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    notes = "".join(f"\n\n{_inline(note)}" for note in table.notes)
    return f"*{_inline(table.caption)}*\n\n{lines}{notes}"


def _cell(cell: Inline) -> str:
    return _inline(cell).replace("|", "\\|")


def _text(text: str | Text) -> str:
    return "".join(map(_inline, parts(text)))


def _inline(part: Inline) -> str:
    if isinstance(part, Link):
        return f"[{_plain(part.text)}]({part.url})"
    return _plain(part)


def _plain(text: str) -> str:
    """Return text with Markdown's marks escaped."""
    return "".join(f"\\{c}" if c in "\\*_`<>[]" else c for c in text)
