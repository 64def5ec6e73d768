"""How tables look in a terminal, a pipe or a file."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 140
LEFT = {"budget", "best architecture", "between"}


def console() -> Console:
    """A console; a pipe has no width of its own and gets one that holds the tables."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=PIPE_WIDTH)


def plain_table(title: str, columns: list[str]) -> Table:
    """A table without vertical rules, numbers to the right."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in columns:
        table.add_column(column, justify="left" if column in LEFT else "right", no_wrap=True)
    return table


def shown(path: Path) -> Path:
    """As short as it can be typed here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
