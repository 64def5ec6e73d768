"""`make rollback`: the champion before the present one is champion again."""

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
    """Name of the registered model; may be left out where there is one with a champion only."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""


def main(options: RollbackOptions) -> None:
    """Move the alias back, record it on both versions, say so."""
    from rich.console import Console

    from research.cli.next_steps import print_next
    from research.errors import InputError
    from research.tracking.champion_history import current_champions, roll_back
    from research.tracking.store import open_store

    store = open_store(options.store, must_exist=True)
    name = options.model
    if not name:
        names = [one.name for one in current_champions(store)]
        if len(names) != 1:
            there = f"give one of {', '.join(names)}" if names else "no model has a champion; see make promote"
            raise InputError(f"MODEL=: {there}.")
        (name,) = names
    left, restored = roll_back(store, name)
    print(f"champion   {name} version {restored}, instead of version {left}")
    print_next(Console(), options.store, f"make predict MODEL={name}", f"make rollback MODEL={name}")
