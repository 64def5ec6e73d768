"""Metrics of a probability forecast. Functions take logits, so that a sigmoid is applied exactly once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import rankdata

Array = NDArray[np.float64]
Labels = NDArray[np.int8]
Days = NDArray[np.generic]

COLLAPSED_SPREAD = 0.005
"""Standard deviation of the probabilities below which a model predicts the same every day."""
PROBABILITY_FLOOR = 1e-12


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Metrics of one model on one set of rows, named as in the log with the prefix `val_`."""

    loss: float
    """Mean log loss in nats."""
    loss_se: float
    """Standard error of the mean with days as independent; too small if label intervals overlap."""
    base_rate_loss: float
    """Log loss of always predicting the training base rate."""
    skill: float
    """1 - loss / base_rate_loss."""
    auc: float
    """Area under the ROC curve."""
    auc_se: float
    """DeLong's standard error of the area, with days as independent."""
    brier: float
    """Mean squared error of the probability."""
    ece: float
    """Expected calibration error over ten bins of equal mass."""
    spread: float
    """Standard deviation of the predicted probabilities."""
    n: int
    """Number of rows."""


def scores(logits: Array, labels: Labels, training_base_rate: float, days: Days | None = None) -> Scores:
    """Return all metrics of a forecast; rows of the same day are one observation of the standard errors."""
    losses = row_losses(logits, labels)
    probabilities = expit(logits)
    base = base_rate_loss(labels, training_base_rate)
    auc, auc_se = auc_with_error(logits, labels, days)
    distances = losses - losses.mean()
    return Scores(
        loss=float(losses.mean()),
        loss_se=_root_of_squares(distances / np.sqrt(len(losses) * (len(losses) - 1)), days),
        base_rate_loss=base,
        skill=1 - float(losses.mean()) / base,
        auc=auc,
        auc_se=auc_se,
        brier=float(np.mean((probabilities - labels) ** 2)),
        ece=calibration_error(probabilities, labels),
        spread=float(probabilities.std()),
        n=len(labels),
    )


def row_losses(logits: Array, labels: Labels) -> Array:
    """Return the log loss of each row: log(1 + exp(-z)) for label 1, log(1 + exp(z)) for label 0."""
    return np.asarray(np.logaddexp(0.0, np.where(labels == 1, -logits, logits)), dtype=np.float64)


def logits_of(probabilities: Array) -> Array:
    """Return the logits of probabilities, for models that return probabilities."""
    p = np.clip(probabilities, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return np.asarray(np.log(p) - np.log1p(-p), dtype=np.float64)


def base_rate_loss(labels: Labels, training_base_rate: float) -> float:
    """Return the log loss of always predicting the training base rate on these rows."""
    constant = logits_of(np.full(len(labels), training_base_rate))
    return float(row_losses(constant, labels).mean())


def auc_with_error(logits: Array, labels: Labels, days: Days | None = None) -> tuple[float, float]:
    """Return the AUC and its standard error (DeLong et al. 1988, by the ranks of Sun & Xu 2014).

    Rows of one day are one cluster, since they share its news (Obuchowski 1997). NaN with fewer than two rows of a class.
    """
    auc, distances = _auc_distances(logits, labels)
    return auc, _root_of_squares(distances, days)


def auc_by_day(logits: Array, labels: Labels, days: Days) -> Array:
    """Return one value per day, in the order of days, whose mean is the AUC, for a bootstrap over blocks of days.

    Linearised like DeLong's error, which assumes independent days; blocks keep the dependence of neighbouring days.
    """
    auc, distances = _auc_distances(logits, labels)
    unique_days, day = np.unique(days, return_inverse=True)
    return np.asarray(auc + len(unique_days) * np.bincount(day, weights=distances), dtype=np.float64)


def _auc_distances(logits: Array, labels: Labels) -> tuple[float, Array]:
    """Return the AUC and the contribution of each row to its distance from the true AUC."""
    ones, zeros = logits[labels == 1], logits[labels == 0]
    if len(ones) < 2 or len(zeros) < 2:
        return float("nan"), np.full(len(labels), np.nan)
    ranks = rankdata(np.concatenate([ones, zeros]))
    above_zeros = (ranks[: len(ones)] - rankdata(ones)) / len(zeros)
    below_ones = 1 - (ranks[len(ones) :] - rankdata(zeros)) / len(ones)
    auc = float(above_zeros.mean())
    distances = np.empty(len(labels))
    distances[labels == 1] = (above_zeros - auc) / np.sqrt(len(ones) * (len(ones) - 1))
    distances[labels == 0] = (below_ones - auc) / np.sqrt(len(zeros) * (len(zeros) - 1))
    return auc, distances


def _root_of_squares(distances: Array, days: Days | None) -> float:
    """Return the standard error from the contribution of each row to an estimate's distance; rows of a day are summed first."""
    if days is not None:
        distances = np.bincount(np.unique(days, return_inverse=True)[1], weights=distances).astype(np.float64)
    return float(np.sqrt(distances @ distances))


def reliability(probabilities: Array, labels: Labels, bins: int = 10) -> list[tuple[float, float, int]]:
    """Return mean probability, observed share and rows of each bin of equal mass."""
    parts = _bins(probabilities, bins)
    return [(float(probabilities[part].mean()), float(labels[part].mean()), len(part)) for part in parts]


def _bins(probabilities: Array, bins: int = 10) -> list[NDArray[np.int64]]:
    """Return the rows of each bin."""
    order = np.argsort(probabilities, kind="stable")
    ranked = probabilities[order]
    borders = len(ranked) * np.arange(1, bins) // bins
    # A border inside a run of equal probabilities moves to its start; otherwise the order of the rows would decide.
    return [part for part in np.split(order, np.searchsorted(ranked, ranked[borders])) if len(part)]


def calibration_error(probabilities: Array, labels: Labels) -> float:
    """Return the expected calibration error over bins of equal mass (Nguyen & O'Connor 2015)."""
    table = reliability(probabilities, labels)
    return sum(abs(predicted - observed) * rows for predicted, observed, rows in table) / len(labels)


def calibration_error_by_chance(probabilities: Array) -> float:
    """Return the expected calibration error of true probabilities on independent rows, which is never 0.

    The observed share of a bin is then normal around its mean probability.
    """
    spreads = [np.sqrt((probabilities[part] * (1 - probabilities[part])).sum()) for part in _bins(probabilities)]
    return float(np.sqrt(2 / np.pi) * np.sum(spreads) / len(probabilities))


def alarm(result: Scores) -> str:
    """Return the alarm of a forecast, `none` if there is none."""
    return alarm_of(result.spread, result.skill)


def alarm_of(spread: float, skill: float) -> str:
    """Return `collapsed` for the same probability every day, `no-skill` if not better than the base rate, else `none`."""
    if spread < COLLAPSED_SPREAD:
        return "collapsed"
    return "no-skill" if skill <= 0 else "none"
