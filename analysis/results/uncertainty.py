"""How sure a budget's loss is, by three kinds of noise that are never added up. Numbers only.

search      other random trials would have been drawn: bootstrap over the random trials
seed        the same configuration would have been trained from other weights: spread over its replicates
validation  other days would have been predicted: circular block bootstrap over days, the same days for every model
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.results.tuning_curve import expected_best, search_error
from research.evaluation.significance import standard_error

if TYPE_CHECKING:
    from analysis.results.frontier import BudgetResult, Frontier

NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class LossUncertainty:
    """One budget's loss, told in three ways, and the noise of each layer; NaN where the runs do not say."""

    budget: str
    naive_best: float
    """Smallest loss of all trials: chosen for being small, hence flattered."""
    n: int
    """Draws that the expected best is of: as many as the budget with the fewest random trials has; 0 without any."""
    random_trials: int
    expected_best: float
    """Of n random trials, whatever the number of trials of this budget."""
    search: float
    """Standard error of `expected_best`: the noise of the search."""
    fresh_mean: float
    """Mean loss of the winner on seeds that it was not chosen on."""
    fresh_error: float
    """Standard error of that mean: `seed` / sqrt(`fresh_seeds`)."""
    fresh_seeds: int
    seed: float
    """Standard deviation over fresh seeds of one configuration, pooled over the replicated ones of the budget."""
    seed_freedom: int
    """Degrees of freedom of `seed`."""
    rival: str
    """Strongest baseline; empty without one."""
    validation: float
    """Standard error of the mean daily difference to the rival: the noise of the validation days."""

    @property
    def curse(self) -> float:
        """Naive best minus the mean of its fresh seeds: the winner's curse, negative where the choice flattered."""
        return self.naive_best - self.fresh_mean


def loss_uncertainties(frontier: Frontier) -> list[LossUncertainty]:
    """One per budget, in the order of the entries."""
    n = min((len(entry.random_losses) for entry in frontier.entries), default=0)
    rival = min(frontier.baselines, key=lambda name: frontier.baselines[name], default="")
    return [_sureness(entry, n, rival, frontier) for entry in frontier.entries]


def _sureness(entry: BudgetResult, n: int, rival: str, frontier: Frontier) -> LossUncertainty:
    fresh = entry.replicates.get(entry.config, ())
    seed, freedom = pooled_deviation(list(entry.replicates.values()))
    other = frontier.baseline_losses.get(rival)
    return LossUncertainty(
        budget=entry.budget,
        naive_best=entry.val_loss,
        n=n,
        random_trials=len(entry.random_losses),
        expected_best=expected_best(entry.random_losses, n) if n else NAN,
        search=search_error(entry.random_losses, n) if n else NAN,
        fresh_mean=float(np.mean(fresh)) if fresh else NAN,
        fresh_error=seed / len(fresh) ** 0.5 if fresh else NAN,
        fresh_seeds=len(fresh),
        seed=seed,
        seed_freedom=freedom,
        rival=rival,
        validation=NAN if other is None else standard_error(entry.day_losses - other),
    )


def pooled_deviation(groups: list[tuple[float, ...]]) -> tuple[float, int]:
    """Standard deviation within groups and its degrees of freedom; NaN and 0 if no group has two values.

    Pooled, since two or three seeds of one configuration say next to nothing about a spread.
    """
    spread = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in spread)
    if not freedom:
        return NAN, 0
    squares = sum(float(np.var(group)) * len(group) for group in spread)
    return (squares / freedom) ** 0.5, freedom
