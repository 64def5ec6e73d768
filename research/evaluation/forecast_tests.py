"""Tests of whether two forecasts are equally good: interval and Diebold-Mariano, Holm's correction, detectable difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from research.evaluation.significance import (
    TEST_LEVEL,
    DieboldMariano,
    Difference,
    diebold_mariano,
    is_significant,
    paired_difference,
    standard_error,
)

POWER = 0.80


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that the probability of any false rejection stays at the level (Holm 1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def minimum_detectable(differences: NDArray[np.float64]) -> float:
    """Return the true mean daily difference that a two-sided 5% test finds with 80% power: 2.80 block-bootstrap errors."""
    normal = NormalDist()
    return (normal.inv_cdf(1 - TEST_LEVEL / 2) + normal.inv_cdf(POWER)) * standard_error(differences)


@dataclass(frozen=True, kw_only=True)
class PairTest:
    """Results of both tests of a pair on the same days."""

    difference: Difference
    """Loss of the first minus the second, with the interval of the block bootstrap."""
    dm: DieboldMariano
    detectable: float
    """Minimum detectable difference in nats."""

    @property
    def is_significant(self) -> bool:
        """Whether both tests agree on a difference."""
        return is_significant(self.difference, self.dm.p_value)


def pair_test(losses: NDArray[np.float64], others: NDArray[np.float64], horizon: int) -> PairTest:
    """Test one pair; losses per day, in the order of days."""
    return PairTest(
        difference=paired_difference(losses, others),
        dm=diebold_mariano(losses, others, horizon),
        detectable=minimum_detectable(losses - others),
    )
