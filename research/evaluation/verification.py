"""Verification of a forecast beyond its log loss: decomposition of the Brier score, precision and recall of decisions.

All functions take probabilities and labels of 0 and 1, one of each per row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from research.evaluation.metrics import Array, Labels, reliability


@dataclass(frozen=True, kw_only=True)
class BrierDecomposition:
    """Murphy's (1973, equation 3) partition: Brier = reliability - resolution + uncertainty + within.

    Over bins of equal mass. The partition is exact for forecasts that are equal within a bin; `within` is the rest, from
    the spread inside the bins (Stephenson, Coelho & Jolliffe 2008).
    """

    brier: float
    reliability: float
    """Squared distance of mean prediction from observed share, by bin: 0 is calibrated."""
    resolution: float
    """Squared distance of a bin's observed share from the base rate: higher is better."""
    uncertainty: float
    """Base rate x (1 - base rate): the Brier score of always predicting the base rate of these rows."""

    @property
    def within(self) -> float:
        """Part of the Brier score that the bins do not explain."""
        return self.brier - (self.reliability - self.resolution + self.uncertainty)


def brier_parts(probabilities: Array, labels: Labels, bins: int = 10) -> BrierDecomposition:
    """Return the Brier score and its parts."""
    rate = float(labels.mean())
    table = reliability(probabilities, labels, bins)
    predicted, observed, rows = (np.array(column, dtype=np.float64) for column in zip(*table, strict=True))
    weight = rows / len(labels)
    return BrierDecomposition(
        brier=float(np.mean((probabilities - labels) ** 2)),
        reliability=float(weight @ (predicted - observed) ** 2),
        resolution=float(weight @ (observed - rate) ** 2),
        uncertainty=rate * (1 - rate),
    )


def average_precision(probabilities: Array, labels: Labels) -> float:
    """Return the average precision: the area under precision and recall as a step function, as in scikit-learn.

    NaN without a positive. Rows of equal probability enter together: their order has no meaning.
    """
    if not labels.any():
        return float("nan")
    order = np.argsort(-probabilities, kind="stable")
    ranked, hits = probabilities[order], np.cumsum(labels[order], dtype=np.float64)
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float(precision @ np.diff(recall, prepend=0.0))


@dataclass(frozen=True, kw_only=True)
class DecisionMetrics:
    """Counts of predicting yes at and above a threshold."""

    threshold: float
    said_yes: int
    """Rows at or above the threshold, the denominator of the precision."""
    positives: int
    """Rows with label 1, the denominator of the recall."""
    hits: int
    """Rows at or above the threshold with label 1."""

    @property
    def precision(self) -> float:
        """Share of hits among predicted positives; NaN without any."""
        return self.hits / self.said_yes if self.said_yes else float("nan")

    @property
    def recall(self) -> float:
        """Share of hits among positives; NaN without any."""
        return self.hits / self.positives if self.positives else float("nan")


def acting(probabilities: Array, labels: Labels, threshold: float) -> DecisionMetrics:
    """Return the counts of a threshold."""
    yes = probabilities >= threshold
    hits = int((yes & (labels == 1)).sum())
    return DecisionMetrics(threshold=threshold, said_yes=int(yes.sum()), positives=int(labels.sum()), hits=hits)


def thresholds(probabilities: Array, labels: Labels) -> dict[str, float]:
    """Return thresholds chosen on these predictions, by rule.

    `F1`: highest harmonic mean of precision and recall. `base rate`: as many predicted positives as positives. `top tenth`:
    the tenth of the rows with the highest probabilities.
    """
    ranked = np.sort(probabilities)[::-1]
    hits = np.cumsum(labels[np.argsort(-probabilities, kind="stable")])
    # F1 = 2 hits / (predicted + positives), at the last row of each run of equal probabilities.
    scores = 2 * hits / (np.arange(1, len(ranked) + 1) + max(int(labels.sum()), 1))
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    positives = max(int(labels.sum()), 1)
    return {
        "F1": float(ranked[ends[np.argmax(scores[ends])]]),
        "base rate": float(ranked[positives - 1]),
        "top tenth": float(ranked[max(len(ranked) // 10, 1) - 1]),
    }


def rolling_rate(labels: Labels, rows: NDArray[np.int64], horizon: int, days: int = 252) -> Array:
    """Return the share of positives among the newest labels known at each row's close, one per row.

    `labels` are those of all days of one instrument, -1 if there is none. A label of day s needs the bars up to s + horizon,
    so the newest label known on day t is that of t - horizon. Laplace's rule, (k + 1) / (n + 2), keeps the rate off 0 and 1.
    """
    exists = labels >= 0
    positives = np.concatenate([[0], np.cumsum(np.where(exists, labels, 0))])
    counts = np.concatenate([[0], np.cumsum(exists)])
    end = np.clip(rows - horizon + 1, 0, len(labels))
    start = np.clip(end - days, 0, None)
    return np.asarray((positives[end] - positives[start] + 1) / (counts[end] - counts[start] + 2), dtype=np.float64)
