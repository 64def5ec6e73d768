"""How large a difference between two forecasts must be before it means anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_DAYS = 60
RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean daily loss of one model minus another's, on the same days."""

    mean: float
    low: float
    high: float
    """Bounds of the 95% interval."""

    @property
    def inside_noise(self) -> bool:
        """Whether the interval contains zero."""
        return self.low <= 0 <= self.high


def by_day(losses: NDArray[np.float64], days: NDArray[np.generic]) -> NDArray[np.float64]:
    """One value per day, in the order of days, whose mean is the mean of all losses.

    Rows of several instruments on one day share its news: they are one observation of a bootstrap over days. Days with
    more rows weigh more, by their distances to the mean and not by their sums: a sum grows with the rows of its day, and
    the bootstrap would take an instrument that begins late for noise (the linearised ratio, Cochran 1977, section 6.3).
    """
    each, place = np.unique(days, return_inverse=True)
    mean = losses.mean()
    return np.asarray(mean + np.bincount(place, weights=losses - mean) * (len(each) / len(losses)), dtype=np.float64)


def paired_difference(losses: NDArray[np.float64], others: NDArray[np.float64]) -> Difference:
    """Circular block bootstrap (Politis & Romano 1992) of the mean difference, blocks of 60 days.

    Both arrays hold one loss per day, in the order of days. Blocks keep what neighbouring days share: label
    intervals overlap and volatility clusters, so single days are not independent.
    """
    from arch.bootstrap import CircularBlockBootstrap

    if losses.shape != others.shape or len(losses) < 2:
        raise ValueError(f"losses of {losses.shape} and {others.shape} days cannot be paired; give two or more days each.")
    if not (np.isfinite(losses).all() and np.isfinite(others).all()):
        raise ValueError("a daily loss is not finite; there is no difference to test.")
    differences = np.asarray(losses - others, dtype=np.float64)
    block = min(BLOCK_DAYS, max(1, len(differences) // 4))
    bootstrap = CircularBlockBootstrap(block, differences, seed=0)
    means = bootstrap.apply(np.mean, RESAMPLES).ravel()
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(mean=float(differences.mean()), low=float(low), high=float(high))
