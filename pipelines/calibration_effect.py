"""How well probabilities of the test days are calibrated, with intervals of the days' noise. Computes; draws nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from research.significance import LEVEL, by_day, paired_difference, resampled_counts
from research.training.calibration import calibration_slopes
from research.training.metrics import Array, Labels

Days = NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number of the test days, with the 95% interval of their noise."""

    value: float
    low: float
    high: float

    def metrics(self, name: str) -> dict[str, float]:
        """As it is logged."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def slope(logits: Array, labels: Labels, days: Days) -> Interval:
    """Cox's calibration slope: 1 is calibrated, below 1 the forecasts are too far from the base rate. NaN where there is none.

    The interval is over resamples of whole days that have a slope.
    """
    place = np.unique(days, return_inverse=True)[1]
    value = float(calibration_slopes(logits, labels, np.ones((1, len(labels))))[0])
    if np.isnan(value):
        return Interval(value=value, low=value, high=value)
    drawn = [calibration_slopes(logits, labels, counts[:, place]) for counts in resampled_counts(int(place.max()) + 1)]
    low, high = np.nanquantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def bias(logits: Array, labels: Labels, days: Days) -> Interval:
    """Mean probability minus the share of positives: above 0 too much is promised."""
    daily = by_day(expit(logits) - labels, days)
    found = paired_difference(daily, np.zeros_like(daily))
    return Interval(value=found.mean, low=found.low, high=found.high)
