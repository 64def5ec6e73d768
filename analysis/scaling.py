"""`make scaling`: whether the loss falls with size, in the store's own trials or in any table of results (`--csv`).

Other programs can use the functions: `from analysis.scaling import fit_laws, bootstrap, forecast, verdict`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.options import ScalingOptions
from analysis.store_scaling import BudgetStep, budget_steps, scaling_sentences, slope_per_decade
from research.errors import require

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.laws import (
        bootstrap,
        fit_laws,
        forecast,
        observations,
        predict,
        read_csv,
        score,
        validate,
        verdict,
    )

__all__ = [
    "BudgetStep",
    "bootstrap",
    "budget_steps",
    "fit_laws",
    "forecast",
    "observations",
    "predict",
    "read_csv",
    "scaling_sentences",
    "score",
    "slope_per_decade",
    "validate",
    "verdict",
]


def __getattr__(name: str) -> object:
    """Load a function of `analysis.laws` at its first use: `--help` needs no numpy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analysis import laws

    return getattr(laws, name)


def main(options: ScalingOptions) -> None:
    """Fit laws to a table if the options name one, else print the scaling of the store."""
    if options.csv is not None:
        _print_laws_of_table(options.csv, options)
        return
    for flag in ("n", "d", "unique", "loss", "cluster"):
        column = getattr(options, flag)
        require(column is None, f"--{flag}", column, "it names a column of a table; give the table with --csv FILE.")
    from analysis.store_scaling import print_scaling

    print_scaling(options)


def _print_laws_of_table(path: Path, options: ScalingOptions) -> None:
    from analysis.laws.observations import read_csv
    from analysis.laws.report import report
    from analysis.laws.table import show
    from research.cli.console import console

    require(options.n is not None, "N", "", "name the column of parameters, for example --n parameters.")
    require(options.loss is not None, "LOSS", "", "name the column of losses, for example --loss val_loss.")
    columns = {"d": options.d, "unique": options.unique, "cluster": options.cluster}
    table = read_csv(path, n=str(options.n), loss=str(options.loss), **columns)
    law_report = report(
        table,
        options.law,
        delta=options.delta,
        resamples=options.bootstrap,
        holdout_largest=options.holdout_largest,
    )
    if options.json:
        print(law_report.to_json())
    else:
        show(law_report, console())
