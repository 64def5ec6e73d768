"""Tables of the data axis: best loss by training windows, and laws in size and windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.results.data_scaling import DataAxis, gain
from research.counts import count_label

if TYPE_CHECKING:
    from rich.table import Table


def data_table(axis: DataAxis) -> Table:
    """Budgets down, training windows across, and what the windows gave."""
    from research.cli.console import plain_table

    windows = [f"{count_label(one.n_train_windows)} windows" for one in axis.frontiers]
    table = plain_table(f"{axis.title}: best val_loss by training windows", ["budget", *windows, "most - fewest windows"])
    for budget, cells in axis.cells().items():
        found = gain(cells)
        sure = "" if found is None else "~" if found.inside_noise else " "
        told = "" if found is None else f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]{sure}"
        table.add_row(budget, *(f"{entry.val_loss:.4f}" if entry else "" for entry in cells), told)
    return table


def data_law_table(axis: DataAxis) -> Table | None:
    """Laws in size N and training windows D, fitted to the best trials; None where no such law can be determined."""
    from analysis.laws.fit import fit_laws
    from analysis.laws.observations import observations
    from research.cli.console import plain_table

    cells = axis.table()
    columns = {"n": cells["n_params"].to_numpy(float), "d": cells["n_train_windows"].to_numpy(float)}
    fits = [
        one for one in fit_laws(observations(loss=cells["val_loss"].to_numpy(float), **columns)) if "d" in one.law.variables
    ]
    if not fits:
        return None
    table = plain_table(f"{axis.title}: laws in size N and training windows D", ["law", "loss", "fitted", "what to beware of"])
    for column in table.columns:
        column.justify = "left"
    for one in fits:
        fitted = ", ".join(f"{name} {value:.3g}" for name, value in one.parameters.items())
        table.add_row(one.law.name, one.law.formula, fitted, " ".join(one.flags))
    return table
