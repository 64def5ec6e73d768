"""How verbs print: consoles, lines, tables, durations, sizes and paths."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 140
"""Width of output that goes to a pipe or a file, in characters: it holds every table uncut."""
LEFT = {"budget", "best architecture", "between"}
"""Columns of text, wherever they stand."""


def console(width: int = PIPE_WIDTH) -> Console:
    """Return a console for standard output; where that is no terminal it is `width` characters wide."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=width)


def print_line(screen: Console, text: str, *, markup: bool = True) -> None:
    """Print a line as it is: long links are not broken and numbers are not coloured."""
    screen.print(text, soft_wrap=True, highlight=False, markup=markup)


def plain_table(title: str, columns: Sequence[str], left: Collection[str] = LEFT) -> Table:
    """Return a table without vertical rules; columns are right-aligned, but for those named in `left`."""
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    return table


def duration(seconds: float) -> str:
    """Return a time in the unit that reads best, for example `12 s`, `3.5 min`, `7.2 h` or `3.0 days`."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"


def byte_size(count: float) -> str:
    """Return a number of bytes in the unit that reads best, for example `1.3 GB`, `12.4 MB` or `3 KB`."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} KB"


def short_path(path: Path) -> Path:
    """Return a path as short as it can be typed in the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
