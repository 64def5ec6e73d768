"""Loss against parameters and training windows, for studies that varied both. Numbers only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from analysis.results.frontier import BudgetResult, Frontier
    from research.evaluation.significance import Difference


@dataclass(frozen=True, kw_only=True)
class DataAxis:
    """Frontiers of one question that differ in the number of training windows only."""

    frontiers: list[Frontier]
    """Frontiers by number of windows, fewest first."""

    @property
    def title(self) -> str:
        """Experiment, horizon and features."""
        first = self.frontiers[0]
        return f"{first.experiment}, horizon {first.horizon}, {first.features}"

    def cells(self) -> dict[str, list[BudgetResult | None]]:
        """Return budget -> its best trial at each number of windows; None if no sweep has one."""
        sizes = {entry.budget: entry.n_params for frontier in self.frontiers for entry in frontier.entries}
        by_budget = [{entry.budget: entry for entry in frontier.entries} for frontier in self.frontiers]
        return {budget: [entries.get(budget) for entries in by_budget] for budget in sorted(sizes, key=lambda b: sizes[b])}

    def table(self) -> pd.DataFrame:
        """Return one row per budget and number of windows: the points of a law in (N, D)."""
        rows = [
            {
                "budget": entry.budget,
                "n_params": entry.n_params,
                "n_train_windows": frontier.n_train_windows,
                "n_effective_windows": frontier.n_effective_windows,
                "instruments": frontier.instruments,
                "val_loss": entry.val_loss,
                "trials": entry.complete,
                "run_id": entry.run_id,
            }
            for frontier in self.frontiers
            for entry in frontier.entries
        ]
        return pd.DataFrame(rows)


def data_axes(frontiers: Iterable[Frontier]) -> list[DataAxis]:
    """Return the groups of frontiers that agree in all but their training windows and have several numbers of them."""

    def question(frontier: Frontier) -> tuple[str, int, str, str, tuple[str, ...]]:
        return (frontier.experiment, frontier.horizon, frontier.features, frontier.instruments, frontier.setting)

    ordered = sorted(frontiers, key=lambda frontier: (question(frontier), frontier.n_train_windows))
    groups = [list(group) for _, group in groupby(ordered, key=question)]
    return [DataAxis(frontiers=group) for group in groups if len({frontier.n_train_windows for frontier in group}) > 1]


def gain(cells: list[BudgetResult | None]) -> Difference | None:
    """Return the loss with the most windows minus that with the fewest, on the same validation days.

    None if either is missing.
    """
    from research.evaluation.significance import paired_difference

    fewest, largest = cells[0], cells[-1]
    return paired_difference(largest.day_losses, fewest.day_losses) if fewest and largest else None
