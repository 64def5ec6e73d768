"""`make scaling`: does the loss fall with size? Of the store's own trials, or of any table of results with --csv.

The functions are for other programs too: `from analysis.scaling import fit_laws, bootstrap, forecast, verdict`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.options import ScalingOptions
from analysis.store_scaling import BudgetStep, findings, slope_per_decade, steps
from research.errors import require

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.laws import (
        Observations,
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
    "findings",
    "fit_laws",
    "forecast",
    "observations",
    "predict",
    "read_csv",
    "score",
    "slope_per_decade",
    "steps",
    "validate",
    "verdict",
]


def __getattr__(name: str) -> object:
    """The functions of `analysis.laws`, loaded when they are first used: `--help` needs no numpy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analysis import laws

    return getattr(laws, name)


def main(options: ScalingOptions) -> None:
    """Fit laws to a table if one is given, else show what the store holds."""
    if options.csv is not None:
        _outside(options.csv, options)
        return
    for flag in ("n", "d", "unique", "loss", "cluster"):
        value = getattr(options, flag)
        require(value is None, f"--{flag}", value, "it names a column of a table; give the table with --csv FILE.")
    from analysis.store_scaling import show

    show(options)


def _outside(path: Path, options: ScalingOptions) -> None:
    from analysis.laws.report import report

    table = _table(path, options)
    found = report(
        table,
        options.law,
        delta=options.delta,
        resamples=options.bootstrap,
        holdout_largest=options.holdout_largest,
    )
    if options.json:
        print(found.to_json())
        return
    from analysis.laws.table import show
    from research.cli.console import console

    show(found, console())


def _table(path: Path, options: ScalingOptions) -> Observations:
    from analysis.laws.observations import read_csv

    require(options.n is not None, "N", "", "name the column of parameters, for example --n parameters.")
    require(options.loss is not None, "LOSS", "", "name the column of losses, for example --loss val_loss.")
    return read_csv(
        path,
        n=str(options.n),
        loss=str(options.loss),
        d=options.d,
        unique=options.unique,
        cluster=options.cluster,
    )


if __name__ == "__main__":
    from research.cli.run import run

    run(main, ScalingOptions)
