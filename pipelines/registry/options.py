"""Options of `make promote`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PromoteOptions:
    """Make a tested version champion, if it passes every gate.

    Exit code 2 where a gate is not passed; what was found is then on the version, and no alias has moved.

    examples:
      make promote BUDGET=20K HORIZON=1
      make promote MODEL=sp500-threshold-1pct-20K-h1 VERSION=2 FORCE=1
    """

    budget: str = ""
    """Budget of the final run, for example 20K."""
    horizon: int = 1
    """Its horizon."""
    run: str = ""
    """A final run's id, or how it begins, instead of budget and horizon."""
    model: str = ""
    """Name of a registered model, instead of the final run: its challenger, or the version given."""
    version: str = ""
    """Version of that model."""
    force: bool = False
    """Promote past gates that are not passed; the version says which they were."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""
