"""GJR-GARCH(1,1) (Glosten, Jagannathan and Runkle 1993): tomorrow's variance from today's, fast over a million days."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BLOCK = 1024
"""Days of one block of the scan. Fixed, so that the first days are the same to the bit however many follow."""


@dataclass(frozen=True, kw_only=True)
class Garch:
    """h[t+1] = omega + (alpha + gamma [z[t] < 0]) h[t] z[t]^2 + beta h[t], with z the day's standard normal innovation.

    h is the variance of a daily log return as a fraction: 1e-4 is a volatility of 1% a day.
    """

    omega: float
    """In squared log returns; the other three have no unit."""
    alpha: float
    """Weight of any day's squared innovation."""
    gamma: float
    """Additional weight of a falling day's: volatility rises more after losses."""
    beta: float
    """Weight of the day's own variance."""

    @property
    def mean_variance(self) -> float:
        """Mean of h over all time; a normal innovation is negative, and its square, half of the time."""
        return self.omega / (1 - self.alpha - self.gamma / 2 - self.beta)

    def multipliers(self, z: Array) -> Array:
        """The recursion is linear, h[t+1] = omega + a(z[t]) h[t]: this is a(z)."""
        return np.asarray(self.beta + np.where(z < 0, self.alpha + self.gamma, self.alpha) * np.square(z))


SP500 = Garch(omega=2.0746e-6, alpha=0.0, gamma=0.182566, beta=0.892038)
"""Maximum likelihood on the daily close-to-close log returns of the bundled S&P 500, 1999-2018, with mean zero.

Its mean variance is 1.24e-4 (1.11% a day). Its fourth moment is infinite by a hair (E a(z)^2 = 1.009), so that a sample
kurtosis is large and never settles.
"""


def variances(garch: Garch, z: Array) -> Array:
    """[days + 1]: the variance of every day and of the day after the last, from the mean variance on.

    A scan by blocks: within a block h = level + slope * (h of its first day), for all blocks at once; then the first days
    one after the other. The loop is as long as a block, not as the series.
    """
    n_blocks = len(z) // BLOCK + 1
    multipliers = np.ones(n_blocks * BLOCK)
    multipliers[: len(z)] = garch.multipliers(z)
    by_day = np.ascontiguousarray(multipliers.reshape(n_blocks, BLOCK).T)
    levels, slopes = np.zeros((BLOCK + 1, n_blocks)), np.ones((BLOCK + 1, n_blocks))
    for day, factor in enumerate(by_day):
        levels[day + 1] = garch.omega + factor * levels[day]
        slopes[day + 1] = factor * slopes[day]
    firsts = np.full(n_blocks, garch.mean_variance)
    for block in range(1, n_blocks):
        firsts[block] = levels[BLOCK, block - 1] + slopes[BLOCK, block - 1] * firsts[block - 1]
    return np.asarray((levels[:BLOCK] + slopes[:BLOCK] * firsts).T.ravel()[: len(z) + 1])
