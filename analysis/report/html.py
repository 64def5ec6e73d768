"""A report as one self-contained HTML page: no script, font or other file; light and dark, wide and narrow."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from analysis.report.document import (
    Block,
    Commands,
    Image,
    Inline,
    Items,
    Link,
    Paragraph,
    ReportDocument,
    Section,
    Table,
    Text,
    parts,
)

STYLE = Path(__file__).with_name("style.css")


def page(report: ReportDocument) -> str:
    """Return the page."""
    contents = "".join(f'<li><a href="#{section.anchor}">{escape(section.title)}</a></li>' for section in report.sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(report.title)}</title>\n<style>\n{STYLE.read_text()}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(report.title)}</h1>\n{_blocks(report.summary)}"
        f'<nav aria-label="Contents"><ol>{contents}</ol></nav>\n'
        f"{''.join(map(_section, report.sections))}"
        f"<footer>{escape(report.made)}</footer>\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    return f'<section id="{section.anchor}">\n<h2>{escape(section.title)}</h2>\n{_blocks(section.blocks)}</section>\n'


def _blocks(blocks: Sequence[Block]) -> str:
    return "".join(f"{_block(block)}\n" for block in blocks)


def _block(block: Block) -> str:
    match block:
        case Paragraph(text=text, tone=tone):
            return f"<p>{_text(text)}</p>" if tone == "plain" else f'<p class="{tone}">{_text(text)}</p>'
        case Items(items=items):
            return "<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"
        case Commands(lines=lines):
            return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"
        case Image():
            return _image(block)
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{_inline(row[0])}</th>' + "".join(f"<td>{_inline(cell)}</td>" for cell in row[1:]) + "</tr>\n"
        for row in table.rows
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    # A wide table scrolls by itself: the page never does.
    return (
        f'<p class="caption">{escape(table.caption)}</p>\n'
        f'<div class="wide" role="region" aria-label="{escape(table.caption, quote=True)}" tabindex="0">\n<table>'
        f"\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>{notes}"
    )


def _image(image: Image) -> str:
    data = base64.b64encode(image.png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(image.alternative, quote=True)}">'
        f"<figcaption>{escape(image.caption)}</figcaption></figure>"
    )


def _text(text: str | Text) -> str:
    return "".join(map(_inline, parts(text)))


def _inline(part: Inline) -> str:
    if isinstance(part, Link):
        return f'<a href="{escape(part.url, quote=True)}" title="{escape(part.hint, quote=True)}">{escape(part.text)}</a>'
    return escape(part)
