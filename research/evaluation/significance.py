"""Significance of a difference between two forecasts: block bootstrap and Diebold-Mariano."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

BLOCK_DAYS = 60
RESAMPLES = 2000
LEVEL = 0.95
SEED = 0
TEST_LEVEL = 0.05
"""P-value below which a test finds a difference."""
SLAB = 100
"""Resamples averaged at once: this number stays in the processor's cache."""


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


@dataclass(frozen=True, kw_only=True)
class DieboldMariano:
    """Test of equal expected loss."""

    statistic: float
    """Mean daily difference over its standard error, corrected for small samples; negative where the first is better."""
    p_value: float
    """Two-sided, from Student's t with days - 1 degrees of freedom."""
    lags: int
    """Lags of the autocovariances in the variance."""


def is_significant(difference: Difference, p_value: float) -> bool:
    """Return whether interval and Diebold-Mariano agree on a difference; each alone errs twice as often as its level."""
    return not difference.inside_noise and p_value < TEST_LEVEL


def daily_means(losses: NDArray[np.float64], days: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return one value per day, in the order of days, whose mean is the mean of all losses.

    Rows of several instruments on one day share its news: they are one observation of a bootstrap over days. Days with
    more rows weigh more, by their distances from the mean and not by their sums. A sum grows with the rows of its day, and
    the bootstrap would count an instrument that begins late as noise (the linearised ratio, Cochran 1977, section 6.3).
    """
    unique_days, day = np.unique(days, return_inverse=True)
    mean = losses.mean()
    return np.asarray(mean + np.bincount(day, weights=losses - mean) * (len(unique_days) / len(losses)), dtype=np.float64)


def paired_difference(losses: NDArray[np.float64], others: NDArray[np.float64]) -> Difference:
    """Return the mean difference with a circular block bootstrap (Politis & Romano 1992), blocks of 60 days.

    Both arrays hold one loss per day, in the order of days. Blocks keep the dependence of
    neighbouring days: label intervals overlap and volatility clusters.
    """
    if losses.shape != others.shape or len(losses) < 2:
        raise ValueError(f"losses of {losses.shape} and {others.shape} days cannot be paired; give two or more days each.")
    if not (np.isfinite(losses).all() and np.isfinite(others).all()):
        raise ValueError("a daily loss is not finite; there is no difference to test.")
    differences = np.asarray(losses - others, dtype=np.float64)
    low, high = np.quantile(resampled_means(differences), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(mean=float(differences.mean()), low=float(low), high=float(high))


def diebold_mariano(losses: NDArray[np.float64], others: NDArray[np.float64], horizon: int) -> DieboldMariano:
    """Return the test of Diebold & Mariano 1995 on the losses of the same days, in order; `horizon` in days.

    Long-run variance by Newey & West 1987 with 1.3 sqrt(days) lags (Lazarus et al. 2018), at least horizon - 1: labels of
    h days overlap, and volatility clusters longer than they do. The correction of Harvey, Leybourne & Newbold 1997
    (equation 9) is written for h - 1 lags; here its h is lags + 1, which covers all lags in use.
    """
    # Imported here: reading a store loads this module and needs no scipy.
    from scipy.special import stdtr

    differences = losses - others
    days = len(differences)
    if losses.shape != others.shape or days < 2:
        raise ValueError(f"losses of {losses.shape} and {others.shape} days cannot be paired; give two or more days each.")
    lags = min(max(horizon - 1, round(1.3 * days**0.5)), days // 4)
    variance = long_run_variance(differences, lags)
    if variance <= 0:
        return DieboldMariano(statistic=0.0, p_value=1.0, lags=lags)
    reach = lags + 1
    correction = ((days + 1 - 2 * reach + reach * (reach - 1) / days) / days) ** 0.5
    statistic = float(correction * differences.mean() / (variance / days) ** 0.5)
    return DieboldMariano(statistic=statistic, p_value=float(2 * stdtr(days - 1, -abs(statistic))), lags=lags)


def long_run_variance(values: NDArray[np.float64], lags: int) -> float:
    """Return the variance of sqrt(T) times the mean: autocovariances with Bartlett's weights (Newey & West 1987)."""
    centred = values - values.mean()
    total = centred @ centred
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag])
    return float(total / len(values))


def standard_error(differences: NDArray[np.float64]) -> float:
    """Return the standard deviation of the mean daily difference over the resamples; one value per day, in order."""
    return float(resampled_means(differences).std(ddof=1))


def resampled_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each of 2,000 resamples of the days, the same days for every series of this length.

    The last block is cut, so that a resample has the length of its series. Equal to the bit to
    `arch.bootstrap.CircularBlockBootstrap`; importing arch alone costs more than a leaderboard.
    """
    days, block = len(values), block_length(len(values))
    blocks = sliding_window_view(np.concatenate([values, values[: block - 1]]), block)
    return np.concatenate([blocks[slab].reshape(len(slab), -1)[:, :days].mean(axis=1) for slab in _slabs(days, block)])


def resampled_counts(days: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each day is in each resample of `resampled_means`, in slabs of [resamples, days].

    For a statistic that is no mean: the counts are weights of the days.
    """
    block = block_length(days)
    for slab in _slabs(days, block):
        drawn = ((slab[..., None] + np.arange(block)) % days).reshape(len(slab), -1)[:, :days]
        cells = drawn + days * np.arange(len(slab))[:, None]
        counts = np.bincount(cells.reshape(-1), minlength=days * len(slab))
        yield counts.reshape(len(slab), days).astype(np.float64)


def block_length(days: int) -> int:
    """Return the days of a block: 60, or a quarter of the days if there are few."""
    return min(BLOCK_DAYS, max(1, days // 4))


def _slabs(days: int, block: int) -> list[NDArray[np.int64]]:
    """Return the first days of the blocks of every resample; blocks begin anywhere and wrap around."""
    starts = np.random.default_rng(SEED).integers(days, size=(RESAMPLES, -(-days // block)))
    return np.split(starts, range(SLAB, RESAMPLES, SLAB))
