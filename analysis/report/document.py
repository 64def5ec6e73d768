"""Content of a report, apart from its layout: sections of paragraphs, lists, tables, figures and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Tone = Literal["plain", "finding", "caution"]


@dataclass(frozen=True, kw_only=True)
class Link:
    """Text with a link to a run."""

    text: str
    url: str
    hint: str = ""
    """Tooltip: the whole run id."""


Inline = str | Link
Text = Sequence[Inline]
"""Text and links in sequence; a plain string is a text of one part."""


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A paragraph; findings and cautions stand out."""

    text: str | Text
    tone: Tone = "plain"


@dataclass(frozen=True, kw_only=True)
class Items:
    """A list."""

    items: Sequence[str | Text]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a caption; the first column is text, the others are numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Inline]]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.caption


@dataclass(frozen=True, kw_only=True)
class Image:
    """A figure, stored as PNG with the report, its numbers as CSV."""

    name: str
    """File name without suffix."""
    caption: str
    alternative: str
    """Alternative text of the figure."""
    png: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Commands to type."""

    lines: Sequence[str]


Block = Paragraph | Items | Table | Image | Commands


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with its content."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """Fragment of the section's address."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


@dataclass(frozen=True, kw_only=True)
class ReportDocument:
    """The whole page."""

    title: str
    summary: Sequence[Block]
    sections: Sequence[Section]
    made: str
    """Last line: time, store and code."""


def parts(text: str | Text) -> Text:
    """Return a text as its parts."""
    return (text,) if isinstance(text, str) else text
