"""Options of `make promote`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PromoteOptions:
    """Make a tested version champion, if it passes every gate.

    The exit code is 2 if a gate is not passed; the gates are then recorded on the version, and no alias has moved.

    examples:
      make promote BUDGET=20K HORIZON=1
      make promote MODEL=sp500-threshold-1pct-20K-h1 VERSION=2 FORCE=1
    """

    budget: str = ""
    """Parameter budget of the final run, for example 20K."""
    horizon: int = 1
    """Horizon of the final run, in sessions."""
    run: str = ""
    """Id of a final run, or its first characters, instead of budget and horizon."""
    model: str = ""
    """Name of a registered model, instead of a final run: its challenger, or the given version."""
    version: str = ""
    """Version of that model."""
    force: bool = False
    """Promote despite gates that are not passed; they are recorded on the version."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""
