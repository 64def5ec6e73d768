"""Tables of the data axis: best loss by training windows, and laws in size and windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.results.data_scaling import DataAxis, gain
from research.counts import count_label

if TYPE_CHECKING:
    from rich.table import Table


def data_table(axis: DataAxis) -> Table:
    """Return budgets down, training windows across, and the gain from the fewest to the most windows."""
    from research.cli.console import plain_table

    windows = [f"{count_label(frontier.n_train_windows)} windows" for frontier in axis.frontiers]
    table = plain_table(f"{axis.title}: best val_loss by training windows", ["budget", *windows, "most - fewest windows"])
    for budget, cells in axis.cells().items():
        change = gain(cells)
        if change is None:
            text = ""
        else:
            mark = "~" if change.inside_noise else " "
            text = f"{change.mean:+.4f} [{change.low:+.4f}, {change.high:+.4f}]{mark}"
        table.add_row(budget, *(f"{entry.val_loss:.4f}" if entry else "" for entry in cells), text)
    return table


def data_law_table(axis: DataAxis) -> Table | None:
    """Return laws in size N and training windows D, fitted to the best trials; None if no such law can be determined."""
    from analysis.laws.fit import fit_laws
    from analysis.laws.observations import observations
    from research.cli.console import plain_table

    cells = axis.table()
    columns = {"n": cells["n_params"].to_numpy(float), "d": cells["n_train_windows"].to_numpy(float)}
    all_fits = fit_laws(observations(loss=cells["val_loss"].to_numpy(float), **columns))
    fits = [fit for fit in all_fits if "d" in fit.law.variables]
    if not fits:
        return None
    headings = ["law", "loss", "fitted", "cautions"]
    table = plain_table(f"{axis.title}: laws in size N and training windows D", headings, left=headings)
    for fit in fits:
        fitted = ", ".join(f"{name} {value:.3g}" for name, value in fit.parameters.items())
        table.add_row(fit.law.name, fit.law.formula, fitted, " ".join(fit.flags))
    return table
