"""`tapescale features`: the catalogue of features as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from research.features.catalogue import CatalogueEntry, SetSize
    from research.features.feature import Group

PIPE_WIDTH = 190
"""A pipe has no width of its own."""


@dataclass(frozen=True, kw_only=True)
class CatalogueOptions:
    """List every feature: group, formula, warm-up, source, and the sets that hold it.

    examples:
      make features
      make features ARGS='--features s100'
      tapescale features --features s100
    """

    features: str = ""
    """One set only, for example `s100`."""


def main(options: CatalogueOptions) -> None:
    """Print every feature, then how wide the sets are."""
    from rich.console import Console

    from research.features.catalogue import LEGEND, catalogue, set_sizes

    screen = Console()
    screen = screen if screen.is_terminal else Console(width=PIPE_WIDTH)
    groups = catalogue(options.features)
    screen.print(catalogue_table(groups))
    for line in (*LEGEND, "", *size_lines(set_sizes())):
        screen.print(line, markup=False, highlight=False)


def catalogue_table(groups: Mapping[Group, Sequence[CatalogueEntry]]) -> Table:
    """One line per definition under the heading of its group."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("feature", "formula", "warm-up", "source", "sets"):
        table.add_column(column, justify="right" if column == "warm-up" else "left", no_wrap=column == "feature")
    for group, entries in groups.items():
        table.add_row(f"[bold]{group} ({len(entries)})[/]")
        for entry in entries:
            feature = entry.feature
            table.add_row(
                f"  {feature.name}", escape(feature.formula), str(feature.warm_up), feature.source, " ".join(entry.sets)
            )
        table.add_section()
    return table


def size_lines(sizes: Sequence[SetSize]) -> list[str]:
    """One sentence per set."""
    return [_size_line(size) for size in sizes]


def _size_line(size: SetSize) -> str:
    first = f"{size.name}: {size.own} columns, first complete row {size.own_warm_up}"
    if not size.index + size.volatility_index:
        return f"{first}."
    whole = size.own + size.index + size.volatility_index
    added = f"{size.index} more with an index, {size.volatility_index} more with a volatility index"
    return f"{first}; {added}: {whole}, first complete row {size.whole_warm_up}."
