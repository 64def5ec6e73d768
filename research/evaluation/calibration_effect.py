"""Calibration of probabilities on the test days, with intervals for the noise of the days."""

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
    """A statistic of the test days with its 95% interval."""

    value: float
    low: float
    high: float

    def metrics(self, name: str) -> dict[str, float]:
        """Return the value and its bounds under the names of the log."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True, kw_only=True)
class CalibrationScores:
    """Scores of the model's probabilities under one calibration map."""

    loss: float
    brier: float
    ece: float
    slope: Interval
    bias: Interval
    difference: Difference
    """Loss under the map minus the loss without it, paired by day: negative where the map helps."""

    def metrics(self) -> dict[str, float]:
        """Return all scores under the names of the log, without the map's name."""
        difference = {"difference": self.difference.mean, "low": self.difference.low, "high": self.difference.high}
        plain = {"loss": self.loss, "brier": self.brier, "ece": self.ece}
        return {**plain, **difference, **self.slope.metrics("slope"), **self.bias.metrics("bias")}


def effect(logits: Array, before: Array, labels: Labels, days: Days) -> CalibrationScores:
    """Return the scores of `logits`, which a map made from the logits `before`."""
    losses, losses_before = row_losses(logits, labels), row_losses(before, labels)
    probabilities = expit(logits)
    return CalibrationScores(
        loss=float(losses.mean()),
        brier=float(np.mean((probabilities - labels) ** 2)),
        ece=calibration_error(probabilities, labels),
        slope=slope(logits, labels, days),
        bias=bias(logits, labels, days),
        difference=paired_difference(daily_means(losses, days), daily_means(losses_before, days)),
    )


def slope(logits: Array, labels: Labels, days: Days) -> Interval:
    """Return Cox's calibration slope: 1 is calibrated, below 1 forecasts are too far from the base rate; NaN if there is none.

    The interval is over resamples of whole days that have a slope.
    """
    day = np.unique(days, return_inverse=True)[1]
    value = float(calibration_slopes(logits, labels, np.ones((1, len(labels))))[0])
    if np.isnan(value):
        return Interval(value=value, low=value, high=value)
    resampled = [calibration_slopes(logits, labels, counts[:, day]) for counts in resampled_counts(int(day.max()) + 1)]
    low, high = np.nanquantile(np.concatenate(resampled), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def bias(logits: Array, labels: Labels, days: Days) -> Interval:
    """Return the mean probability minus the share of positives: above 0 the model predicts too many."""
    daily = daily_means(expit(logits) - labels, days)
    difference = paired_difference(daily, np.zeros_like(daily))
    return Interval(value=difference.mean, low=difference.low, high=difference.high)
