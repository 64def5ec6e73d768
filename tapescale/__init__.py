"""The public face of tapescale: trials as a table, a sweep, a registered model.

>>> import tapescale
>>> tapescale.sweep(budget="2K", trials=4)
>>> tapescale.trials().nsmallest(5, "val_loss")[["name", "budget", "n_params", "val_loss"]]
>>> tapescale.load_model("sp500-threshold-1pct-2K-h1").predict(bars)

Nothing heavy is imported until a function is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.pyfunc import PyFuncModel

__all__ = ["load_model", "sweep", "trials"]


def trials(store: str | Path = "mlruns", *, experiment: str | None = None) -> pd.DataFrame:
    """Return the trials and baselines of a store, one row each, oldest first.

    Columns are run id, name and outcome, then every parameter, metric and tag under its own name
    (`research.tracking.schema`): `budget`, `n_params`, `val_loss` in nats, `val_auc` and so on. A cell is missing if a run
    lacks the value. Raises `research.errors.InputError` if there is no store.
    """
    from research.tracking.query import trials as read_trials
    from research.tracking.store import open_store

    return read_trials(open_store(Path(store), must_exist=True), experiment=experiment)


def sweep(*, store: str | Path = "mlruns", quiet: bool = False, **options: Any) -> pd.DataFrame:
    """Run or continue a sweep and return its trials and baselines, one row each, by validation loss.

    `options` are those of `tapescale sweep`, for example `budget="20K"`, `horizon=3`, `trials=12`, `workers=1`; see
    `pipelines.options.SweepOptions`. The same call continues an interrupted sweep. Raises `research.errors.InputError` for
    an option that cannot be met, `TypeError` for one that does not exist.
    """
    from rich.console import Console

    from pipelines.options import SweepOptions
    from pipelines.sweep.driver import run_sweep

    ended = run_sweep(SweepOptions(store=Path(store), **options), Console(quiet=quiet))
    table = trials(store)
    return table[table["run_id"].isin([result.run_id for result in ended.finished])].sort_values("val_loss")


def load_model(name: str, version: str | int | None = None, *, store: str | Path = "mlruns") -> PyFuncModel:
    """Return a registered model: its champion, its challenger if there is none, or the given version.

    `model.predict(bars)` takes raw daily bars as a table with the columns date (text), open, high, low, close and volume, and
    symbol if the model knows several instruments. It returns one probability per day that has enough history before it.
    Raises `research.errors.InputError` if there is no such model or version.
    """
    from research.tracking.registry import SelectedVersion, chosen, load, named_version
    from research.tracking.store import open_store

    opened = open_store(Path(store), must_exist=True)
    if version is None:
        return load(opened, chosen(opened, name)[0])
    registered = named_version(opened, name, str(version))
    number, run_id = str(registered.version), str(registered.run_id)
    return load(opened, SelectedVersion(name=name, version=number, alias="", run_id=run_id))
