"""Loss against parameters and training windows together, where a study varied both. Numbers and a plain table."""

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
    """The frontiers of one question that differ in nothing but the training windows, fewest first."""

    frontiers: list[Frontier]

    @property
    def title(self) -> str:
        """Experiment, horizon and features."""
        first = self.frontiers[0]
        return f"{first.experiment}, horizon {first.horizon}, {first.features}"

    def cells(self) -> dict[str, list[BudgetResult | None]]:
        """Budget -> its best trial at each number of windows, None where no sweep has one."""
        sizes = {entry.budget: entry.n_params for frontier in self.frontiers for entry in frontier.entries}
        budgets = sorted(sizes, key=lambda budget: sizes[budget])
        return {budget: [_entry(frontier, budget) for frontier in self.frontiers] for budget in budgets}

    def table(self) -> pd.DataFrame:
        """One row per budget and number of windows: what a law in (N, D) is fitted to."""
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
    """Frontiers that agree in all but their training windows, grouped, where there are several numbers of them."""

    def question(frontier: Frontier) -> tuple[str, int, str, str, tuple[str, ...]]:
        return (frontier.experiment, frontier.horizon, frontier.features, frontier.instruments, frontier.setting)

    ordered = sorted(frontiers, key=lambda frontier: (question(frontier), frontier.n_train_windows))
    groups = [list(group) for _, group in groupby(ordered, key=question)]
    return [DataAxis(frontiers=group) for group in groups if len({one.n_train_windows for one in group}) > 1]


def gain(cells: list[BudgetResult | None]) -> Difference | None:
    """What most windows give over fewest, on the same validation days; None where one of the two is missing."""
    from research.evaluation.significance import paired_difference

    fewest, most = cells[0], cells[-1]
    return paired_difference(most.day_losses, fewest.day_losses) if fewest and most else None


def _entry(frontier: Frontier, budget: str) -> BudgetResult | None:
    return next((entry for entry in frontier.entries if entry.budget == budget), None)
