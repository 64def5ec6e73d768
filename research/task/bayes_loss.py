"""Bayes loss of a synthetic market: the true probability of every label, and the lowest possible log loss.

The probability is conditional on the market's state at the close of t, which the whole history up to t determines. A model
that sees a window of the history can approach this loss, and fall below it only by chance on the given rows.

At horizon 1 the probability is a closed form. Over h days the closes of the first h - 1 days are simulated (randomised
quasi-Monte Carlo); movements within a day, and the last day, are integrated out in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

from research.data.garch import SP500
from research.errors import require
from research.spec import TargetKind, TargetSpec
from research.task.targets import label

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

REPLICATES, PATHS = 8, 64
"""Number of independently scrambled Sobol sequences, whose spread gives the standard error, and paths of each."""
CHUNK = 256
"""Rows simulated together: the arrays of a step stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class BayesLoss:
    """Lowest possible log loss, in nats, on given rows."""

    expected: float
    """Mean entropy of the true probabilities: the lowest loss in expectation over the labels."""
    expected_error: float
    """Standard error of the expected loss from simulation; 0 at horizon 1."""
    realised: float
    """Log loss of the true probabilities on the realised labels: the loss of a perfect model."""
    realised_error: float
    """Standard deviation of the realised around the expected loss, with overlapping label intervals."""


SOLVED: tuple[TargetKind, ...] = ("threshold", "downside", "end", "direction")
"""Kinds of target whose true probability is implemented."""


def has_known_answer(bars: pd.DataFrame, spec: TargetSpec) -> bool:
    """Return whether the bars have a synthetic market's state and the target is of a kind with a true probability."""
    return {"sigma_next", "drift_next"} <= set(bars.columns) and spec.kind in SOLVED


def bayes_loss(bars: pd.DataFrame, spec: TargetSpec, rows: Rows) -> BayesLoss:
    """Return the lowest possible loss on these rows, all of which need a known label."""
    labels = label(bars, spec).labels[rows]
    assert (labels >= 0).all(), "rows need known labels"
    by_replicate = np.clip(label_probabilities(bars, spec, rows), 1e-12, 1 - 1e-12)
    p = by_replicate.mean(axis=0)
    logit = np.log(p) - np.log1p(-p)
    losses = -np.log1p(-p) - logit * labels
    entropies = -np.log1p(-p) - logit * p
    # To first order, an error of the probability changes the entropy by -logit times that error.
    simulated = (logit * (by_replicate - p)).mean(axis=1)
    return BayesLoss(
        expected=float(entropies.mean()),
        expected_error=float(simulated.std(ddof=1) / np.sqrt(len(simulated))) if len(simulated) > 1 else 0.0,
        realised=float(losses.mean()),
        realised_error=_error_of_mean(losses - entropies, rows, spec.horizon),
    )


def _error_of_mean(surprises: Array, rows: Rows, horizon: int) -> float:
    """Return the standard error of the mean of zero-mean values that are dependent only within `horizon` days."""
    by_day = np.zeros(int(rows.max()) + 1)
    by_day[rows] = surprises
    total = by_day @ by_day
    total += 2 * sum(by_day[lag:] @ by_day[:-lag] for lag in range(1, min(horizon, len(by_day))))
    # Over few rows the sum may fall below that of independent days.
    return float(np.sqrt(max(total, by_day @ by_day)) / len(rows))


def label_probabilities(bars: pd.DataFrame, spec: TargetSpec, rows: Rows) -> Array:
    """Return P(label = 1) given the market's state at the close of each row, [replicates, rows].

    The mean over replicates is the best estimate. There is one replicate without simulation. Over several days a row takes
    a tenth of a millisecond. Shuffled labels have their base rate on every day. `InputError` for other data or kinds.
    """
    if spec.shuffled is not None:
        target = label(bars, spec)
        return np.full((1, len(rows)), target.labels[: target.n_labelled].mean())
    for column in ("sigma_next", "drift_next"):
        fix = f"the bars have no column {column}; true probabilities are known for DATA=synthetic only."
        require(column in bars, "TASK", spec.kind, fix)
    require(spec.kind in SOLVED, "TASK", spec.kind, f"true probabilities are known for {', '.join(SOLVED)} only.")
    _check_lag(bars, spec.horizon)
    sigma = bars["sigma_next"].to_numpy(np.float64)
    drifts = np.lib.stride_tricks.sliding_window_view(bars["drift_next"].to_numpy(np.float64), spec.horizon)
    if spec.horizon == 1:
        return _paths(sigma[rows, None], drifts[rows], spec, np.empty((0, len(rows), 1))).T
    points, shifts = _points(spec.horizon - 1, len(bars))
    parts = []
    for part in np.split(rows, range(CHUNK, len(rows), CHUNK)):
        z = ndtri((points[:, None] + shifts[:, part, None]) % 1)
        parts.append(_paths(sigma[part, None], drifts[part], spec, z).reshape(len(part), REPLICATES, PATHS).mean(axis=2))
    return np.concatenate(parts).T


def _check_lag(bars: pd.DataFrame, horizon: int) -> None:
    """Raise `InputError` if a drift of the label interval is unknown at its start: the lag must not be below the horizon."""
    first = bars.iloc[:1000]
    drift = first["drift_next"].to_numpy()
    if horizon == 1 or not drift.any():
        return
    surprise = np.diff(np.log(first["close"].to_numpy())) - drift[:-1]
    for lag in range(1, min(horizon, len(surprise) - 1)):
        repeated = np.corrcoef(drift[lag:], surprise[: len(surprise) - lag + 1])[0, 1] > 0.999
        require(not repeated, "HORIZON", horizon, f"the planted drift has a lag of {lag} days; give a horizon up to {lag}.")


def _points(days: int, n_rows: int) -> tuple[Array, Array]:
    """Return Sobol points, [days, replicates * paths], and one random shift of them per row, [days, rows].

    Without the shifts all rows would share one simulation error, which a mean over rows would not reduce.
    """
    # Loads scipy.stats, which takes a second.
    from scipy.stats.qmc import Sobol

    sequences = [Sobol(days, rng=np.random.default_rng(seed)).random(PATHS) for seed in range(REPLICATES)]
    shifts = np.random.default_rng(REPLICATES).random((n_rows, days))
    return np.concatenate(sequences).T, shifts.T


def _paths(sigma: Array, drifts: Array, spec: TargetSpec, z: Array) -> Array:
    """Return P(label = 1) given a path's innovations on all days but the last, [rows, paths].

    `sigma` [rows, 1] is tomorrow's volatility, `drifts` [rows, horizon] the drift of each day, `z` [horizon - 1, rows, paths]
    the innovations. A fall is a rise of the mirrored price: the barrier is always above.
    """
    sign = -1.0 if spec.kind == "downside" else 1.0
    barrier = sign * np.log1p(sign * spec.threshold)
    distance: Array = np.full((len(sigma), z.shape[2]), barrier)
    untouched: Array = np.ones_like(distance)
    for day, innovations in enumerate(z):
        next_distance = distance - sign * (drifts[:, day, None] + sigma * innovations)
        untouched *= _untouched(distance, next_distance, sigma, spec)
        distance = next_distance
        sigma = np.sqrt(SP500.omega + SP500.multipliers(innovations) * np.square(sigma))
    return 1 - untouched * (1 - _last_day(distance / sigma, sign * drifts[:, -1, None] / sigma, spec))


def _untouched(before: Array, after: Array, sigma: Array, spec: TargetSpec) -> Array | float:
    """Return P(a day's path stays below a barrier | its distance at open and close): the Brownian bridge's maximum."""
    if spec.kind in ("end", "direction"):
        return 1.0
    if spec.touch == "close":
        return np.asarray(after > 0, dtype=np.float64)
    return np.asarray(-np.expm1(-2 * np.maximum(before, 0) * np.maximum(after, 0) / np.square(sigma)))


def _last_day(away: Array, drift: Array, spec: TargetSpec) -> Array:
    """Return P(a day's price touches, or ends at or above, a barrier), with distance and drift in units of volatility.

    The reflection principle with a drift (Karatzas and Shreve 1991, section 3.5.C): for the distance a and the drift m,
    P(maximum >= a) = N(m - a) + exp(2 m a) N(-m - a).
    """
    if spec.touch == "close":
        return np.asarray(ndtr(drift - away))
    away = np.maximum(away, 0)
    # In logarithms: the factors of the second term may overflow while their product does not.
    return np.asarray(ndtr(drift - away) + np.exp(2 * drift * away + log_ndtr(-drift - away)))
