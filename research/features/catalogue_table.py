"""`make features`: the catalogue of features as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from research.features.catalogue import CatalogueEntry, SetSize
    from research.features.feature import Group

PIPE_WIDTH = 190
"""Width of output to a pipe, in characters: the formulas need more than other tables."""


@dataclass(frozen=True, kw_only=True)
class CatalogueOptions:
    """List every feature: group, formula, warm-up, source, and the sets that contain it.

    examples:
      make features
      make features ARGS='--features s100'
      tapescale features --features s100
    """

    features: str = ""
    """Only this set, for example `s100`."""


def main(options: CatalogueOptions) -> None:
    """Print every feature, then the size of every set."""
    from research.cli.console import console, print_line
    from research.features.catalogue import LEGEND, catalogue, set_sizes

    screen = console(PIPE_WIDTH)
    screen.print(catalogue_table(catalogue(options.features)))
    for line in (*LEGEND, "", *size_lines(set_sizes())):
        print_line(screen, line, markup=False)


def catalogue_table(groups: Mapping[Group, Sequence[CatalogueEntry]]) -> Table:
    """Return a table with one line per definition below the heading of its group."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    # Formulas wrap in a narrow terminal, which `plain_table` does not allow.
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
    """Return one sentence per set on its columns and warm-up."""
    lines: list[str] = []
    for size in sizes:
        line = f"{size.name}: {size.own} columns, first complete row {size.own_warm_up}"
        if size.index + size.volatility_index:
            whole = size.own + size.index + size.volatility_index
            added = f"{size.index} more with an index, {size.volatility_index} more with a volatility index"
            line += f"; {added}: {whole}, first complete row {size.whole_warm_up}"
        lines.append(f"{line}.")
    return lines
