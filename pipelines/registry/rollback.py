"""`make rollback`: make the previous champion champion again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RollbackOptions:
    """Restore the previous champion; each further call goes one further back.

    examples:
      make rollback
      make rollback MODEL=sp500-threshold-1pct-20K-h1
    """

    model: str = ""
    """Name of the registered model; optional if only one has a champion."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""


def main(options: RollbackOptions) -> None:
    """Move the alias back, record it on both versions and print the change."""
    from research.cli.console import console
    from research.cli.next_steps import print_next
    from research.errors import InputError
    from research.tracking.champion_history import current_champions, roll_back
    from research.tracking.store import open_store

    store = open_store(options.store, must_exist=True)
    name = options.model
    if not name:
        names = [champion.name for champion in current_champions(store)]
        if len(names) != 1:
            fix = f"give one of {', '.join(names)}" if names else "no model has a champion; see make promote"
            raise InputError(f"MODEL=: {fix}.")
        (name,) = names
    left, restored = roll_back(store, name)
    print(f"champion   {name} version {restored}, instead of version {left}")
    print_next(console(), options.store, f"make predict MODEL={name}", f"make rollback MODEL={name}")
