"""Are two forecasts equally good? Diebold-Mariano, Holm over several questions, and what could have been seen. Numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from research.significance import Difference, paired_difference, standard_error

LEVEL = 0.05
POWER = 0.80


@dataclass(frozen=True, kw_only=True)
class DieboldMariano:
    """Test of equal expected loss."""

    statistic: float
    """Mean daily difference over its standard error, corrected for small samples; negative where the first is better."""
    p_value: float
    """Two-sided, from Student's t with days - 1 degrees of freedom."""
    lags: int
    """Of the autocovariances in the variance."""


def diebold_mariano(losses: NDArray[np.float64], others: NDArray[np.float64], horizon: int) -> DieboldMariano:
    """Diebold & Mariano 1995 on the losses of the same days, in order; `horizon` in days.

    Long-run variance by Newey & West 1987 with 1.3 sqrt(days) lags (Lazarus et al. 2018), at least horizon - 1: labels of
    h days overlap, and volatility clusters longer than they do. The correction of Harvey, Leybourne & Newbold 1997
    (equation 9) is written for h - 1 lags; here its h is lags + 1, so that it answers for all that are used.
    """
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
    return DieboldMariano(statistic=statistic, p_value=float(2 * stats.t.sf(abs(statistic), days - 1)), lags=lags)


def long_run_variance(values: NDArray[np.float64], lags: int) -> float:
    """Variance of sqrt(T) times the mean: autocovariances up to `lags` with Bartlett's weights (Newey & West 1987)."""
    centred = values - values.mean()
    total = centred @ centred
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag])
    return float(total / len(values))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that the chance of any false rejection among them stays at the level (Holm 1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def minimum_detectable(differences: NDArray[np.float64]) -> float:
    """True mean daily difference that a two-sided test at 5% finds with a power of 80%: 2.80 block-bootstrap errors."""
    normal = NormalDist()
    return (normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(POWER)) * standard_error(differences)


@dataclass(frozen=True, kw_only=True)
class PairTest:
    """Everything about one pair on the same days."""

    difference: Difference
    """Of the first minus the second; block bootstrap."""
    dm: DieboldMariano
    detectable: float
    """Minimum detectable difference in nats."""


def pair_test(losses: NDArray[np.float64], others: NDArray[np.float64], horizon: int) -> PairTest:
    """Both tests of one pair; losses per day, in the order of days."""
    return PairTest(
        difference=paired_difference(losses, others),
        dm=diebold_mariano(losses, others, horizon),
        detectable=minimum_detectable(losses - others),
    )
