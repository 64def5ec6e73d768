"""Uncertainty of a budget's loss from three kinds of noise, which are never added up. Numbers only.

search      the draw of the random trials: bootstrap over the random trials
seed        the initial weights of one configuration: spread over its replicates
validation  the choice of validation days: circular block bootstrap over days, the same days for every model
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.results.tuning_curve import expected_best, search_error
from research.evaluation.significance import standard_error

if TYPE_CHECKING:
    from analysis.results.frontier import BudgetResult, Frontier

NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class LossUncertainty:
    """Three estimates of one budget's loss and the noise of each kind; NaN if the runs do not determine it."""

    budget: str
    naive_best: float
    """Smallest loss of all trials, biased downwards because it was chosen for being small."""
    n: int
    """Number of random trials of the budget with the fewest; 0 if it has none."""
    random_trials: int
    expected_best: float
    """Expected loss of the best of n random trials, comparable between budgets."""
    search: float
    """Standard error of `expected_best`: the noise of the search."""
    fresh_mean: float
    """Mean loss of the best configuration on seeds that it was not chosen on."""
    fresh_error: float
    """Standard error of `fresh_mean`: `seed` / sqrt(`fresh_seeds`)."""
    fresh_seeds: int
    seed: float
    """Standard deviation over fresh seeds of one configuration, pooled over the replicated ones of the budget."""
    rival: str
    """Strongest baseline; empty if there is none."""
    validation: float
    """Standard error of the mean daily difference to the rival: the noise of the validation days."""

    @property
    def curse(self) -> float:
        """Winner's curse: the naive best minus the mean of its fresh seeds, negative if the choice flattered."""
        return self.naive_best - self.fresh_mean


def loss_uncertainties(frontier: Frontier) -> list[LossUncertainty]:
    """Return the uncertainty of each budget's loss, in the order of the entries."""
    n = min((len(entry.random_losses) for entry in frontier.entries), default=0)
    rival = min(frontier.baselines, key=lambda name: frontier.baselines[name], default="")
    return [_uncertainty(entry, n, rival, frontier.baseline_losses.get(rival)) for entry in frontier.entries]


def _uncertainty(entry: BudgetResult, n: int, rival: str, rival_losses: NDArray[np.float64] | None) -> LossUncertainty:
    fresh = entry.replicates.get(entry.config, ())
    seed = pooled_deviation(list(entry.replicates.values()))
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
        rival=rival,
        validation=NAN if rival_losses is None else standard_error(entry.day_losses - rival_losses),
    )


def pooled_deviation(groups: list[tuple[float, ...]]) -> float:
    """Return the standard deviation within groups; NaN if no group has two values.

    It is pooled because two or three seeds of one configuration hardly determine a spread.
    """
    repeated = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in repeated)
    squares = sum(float(np.var(group)) * len(group) for group in repeated)
    return (squares / freedom) ** 0.5 if freedom else NAN
