"""How well probabilities of the test days are calibrated, with intervals of the days' noise. Computes; draws nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from research.evaluation.calibration import calibration_slopes
from research.evaluation.metrics import Array, Labels, calibration_error, row_losses
from research.evaluation.significance import LEVEL, Difference, daily_means, paired_difference, resampled_counts

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


@dataclass(frozen=True, kw_only=True)
class CalibrationScores:
    """The model's probabilities as one map leaves them."""

    loss: float
    brier: float
    ece: float
    slope: Interval
    bias: Interval
    difference: Difference
    """Its loss minus that of the probabilities as they were, paired by day: negative where the map helps."""

    def metrics(self) -> dict[str, float]:
        """As they are logged, without the map's name."""
        difference = {"difference": self.difference.mean, "low": self.difference.low, "high": self.difference.high}
        plain = {"loss": self.loss, "brier": self.brier, "ece": self.ece}
        return {**plain, **difference, **self.slope.metrics("slope"), **self.bias.metrics("bias")}


def effect(logits: Array, before: Array, labels: Labels, days: Days) -> CalibrationScores:
    """What a map does that made `logits` of `before`."""
    losses, as_they_were = row_losses(logits, labels), row_losses(before, labels)
    probabilities = expit(logits)
    return CalibrationScores(
        loss=float(losses.mean()),
        brier=float(np.mean((probabilities - labels) ** 2)),
        ece=calibration_error(probabilities, labels),
        slope=slope(logits, labels, days),
        bias=bias(logits, labels, days),
        difference=paired_difference(daily_means(losses, days), daily_means(as_they_were, days)),
    )


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
    daily = daily_means(expit(logits) - labels, days)
    found = paired_difference(daily, np.zeros_like(daily))
    return Interval(value=found.mean, low=found.low, high=found.high)
