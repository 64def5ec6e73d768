"""GJR-GARCH(1,1) (Glosten, Jagannathan and Runkle 1993): daily variances, vectorised for long series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BLOCK = 1024
"""Days per block of the scan. Fixed, so that a longer series starts with the same bits as a shorter one."""


@dataclass(frozen=True, kw_only=True)
class Garch:
    """h[t+1] = omega + (alpha + gamma [z[t] < 0]) h[t] z[t]^2 + beta h[t], with z the day's standard normal innovation.

    h is the variance of a daily log return as a fraction: 1e-4 is a volatility of 1% a day.
    """

    omega: float
    """Constant, in squared log returns; the other three parameters have no unit."""
    alpha: float
    """Weight of the squared innovation."""
    gamma: float
    """Additional weight of a negative innovation: volatility rises more after losses."""
    beta: float
    """Weight of the previous variance."""

    @property
    def mean_variance(self) -> float:
        """Unconditional mean of h; half of a symmetric innovation's squares belong to negative ones, hence gamma / 2."""
        return self.omega / (1 - self.alpha - self.gamma / 2 - self.beta)

    def multipliers(self, z: Array) -> Array:
        """Return a(z) of the linear recursion h[t+1] = omega + a(z[t]) h[t]."""
        return np.asarray(self.beta + np.where(z < 0, self.alpha + self.gamma, self.alpha) * np.square(z))


SP500 = Garch(omega=2.0746e-6, alpha=0.0, gamma=0.182566, beta=0.892038)
"""Maximum likelihood on the daily close-to-close log returns of the bundled S&P 500, 1999-2018, with mean zero.

The mean variance is 1.24e-4 (1.11% a day). The fourth moment is just infinite (E a(z)^2 = 1.009), so that the sample
kurtosis is large and does not converge.
"""


def variances(garch: Garch, z: Array) -> Array:
    """Return the variances [days + 1] of every day and of the day after the last, starting from the mean variance.

    `z` holds the innovations [days]. The scan works in blocks: within a block h = level + slope * (h of its first day),
    for all blocks at once; then the first days follow sequentially. The loop length is that of a block, not of the series.
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
