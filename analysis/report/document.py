"""What a report is made of, apart from how it looks: sections of paragraphs, lists, tables, figures and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Tone = Literal["plain", "finding", "caution"]


@dataclass(frozen=True, kw_only=True)
class Link:
    """A few words that lead to a run."""

    text: str
    url: str
    hint: str = ""
    """Said when the pointer rests on it: the whole run id."""


Inline = str | Link
Text = Sequence[Inline]
"""Words and links in a row; a plain string is a text of one part."""


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
    """A figure that lies as a PNG beside the report, with its numbers as CSV."""

    name: str
    """File name without suffix."""
    caption: str
    alternative: str
    """What the figure shows, for those who cannot see it."""
    png: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Lines to type."""

    lines: Sequence[str]


Block = Paragraph | Items | Table | Image | Commands


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """Name of the section in addresses."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


@dataclass(frozen=True, kw_only=True)
class ReportDocument:
    """The whole page."""

    title: str
    summary: Sequence[Block]
    sections: Sequence[Section]
    made: str
    """When, from which store and code: the last line."""


def parts(text: str | Text) -> Text:
    """A text as its parts."""
    return (text,) if isinstance(text, str) else text
