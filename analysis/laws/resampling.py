"""Bootstrap of a fit over clusters and seeds, all draws at once. Shape suffixes as in `forms`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis.laws.fit import Fit, bounds
from analysis.laws.forms import Array
from analysis.laws.huber_newton import Problem, log_prediction, minimise
from analysis.laws.observations import Observations
from research.errors import require

RESAMPLES = 4000
LEVEL = 0.95
TOLERANCE = 1e-6
"""Relative improvement of an objective that ends a draw, far below the spread between draws."""
NORMAL_95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """Distribution of a law's parameters over draws of the clusters."""

    parameters: Array = field(repr=False)
    """Parameters of every draw in the order of `law.parameters`, (B, P)."""
    theta: Array = field(repr=False)
    """Log coefficients and shape parameters of every draw, (B, P)."""
    standard_errors: dict[str, float]
    """Standard deviations over draws; for a coefficient whose log varies widely, use the interval instead."""
    intervals: dict[str, tuple[float, float]]
    """95% percentile intervals about the estimate, widened by Student's t if clusters are few."""
    n_clusters: int
    inflation: float
    """Factor by which the intervals are wider than a plain bootstrap's."""


def bootstrap(fit: Fit, table: Observations, *, resamples: int = RESAMPLES, seed: int = 0) -> Bootstrap:
    """Return the cluster bootstrap of a fit (Cameron, Gelbach & Miller 2008): B weighted fits from its optimum.

    `table` holds the fitted rows. If cells have several seeds, a second bootstrap draws the seeds, and the wider of the two
    is kept: with a nearly absolute loss the curve passes between the seeds of every budget and need not move when budgets
    are drawn. The law is taken as true; `predict` has the spread between laws. `InputError` if there are too few clusters.
    """
    clusters = int(table.cluster.max()) + 1
    P = fit.law.n_parameters
    fix = f"too few to draw from for {P} parameters; leave --cluster out or choose a smaller law."
    require(clusters > P, "CLUSTER", f"{clusters} clusters", fix)
    require(resamples >= 2, "BOOTSTRAP", resamples, "give at least 2 draws, 4000 for an interval.")
    theta, inflation = _refit(fit, table, _cluster_weights(table, resamples, P, seed)), _student(clusters - P)
    if len(cells := table.cells()) < len(table):
        seed_theta = _refit(fit, table, _seed_weights(cells, resamples, seed))
        seed_inflation = _student(len(table) - P)
        if seed_inflation * _spread(fit, seed_theta, table) > inflation * _spread(fit, theta, table):
            theta, inflation = seed_theta, seed_inflation
    parameters = fit.law.natural(theta, fit.means)
    return Bootstrap(
        parameters=parameters,
        theta=theta,
        standard_errors=dict(zip(fit.law.parameters, map(float, parameters.std(axis=0, ddof=1)), strict=True)),
        intervals=_intervals(fit, parameters, inflation),
        n_clusters=clusters,
        inflation=inflation,
    )


def _student(freedom: int) -> float:
    """Return the ratio of the 95% quantiles of Student's t and the normal distribution.

    Fitted parameters add no factor: draws of a nearly absolute loss vary a little more than its estimates, which
    compensates for it (simulations in tests/analysis/laws).
    """
    return float(stdtrit(freedom, (1 + LEVEL) / 2) / NORMAL_95)


def _spread(fit: Fit, theta: Array, table: Observations) -> float:
    """Return the root mean square, over the rows, of the standard deviation of the predicted log loss."""
    return float(np.sqrt(predictions(fit, theta, table).var(axis=0).mean()))


def _cluster_weights(table: Observations, resamples: int, min_distinct: int, seed: int) -> Array:
    """Return how often each row is in each draw of whole clusters, (B, I); draws have `min_distinct` distinct clusters."""
    rng = np.random.default_rng(seed)
    clusters = int(table.cluster.max()) + 1
    even = np.full(clusters, 1 / clusters)
    counts = rng.multinomial(clusters, even, size=resamples)
    while len(rejected := np.flatnonzero((counts > 0).sum(axis=1) < min_distinct)):
        counts[rejected] = rng.multinomial(clusters, even, size=len(rejected))
    return counts[:, table.cluster].astype(np.float64)


def _seed_weights(cells: list[NDArray[np.intp]], resamples: int, seed: int) -> Array:
    """Return how often each row is in each draw of the seeds within every cell, (B, I)."""
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, sum(map(len, cells))))
    for rows in cells:
        weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples)
    return weights


def _refit(fit: Fit, table: Observations, weights_BI: Array) -> Array:
    """Fit the law again with every weighting of the rows and return theta, (B, P)."""
    x = fit.centred({name: column for name, column in table.variables().items() if name in fit.law.variables})
    log_loss = np.log(table.loss)
    low, high = bounds(fit.law, log_loss)
    problem = Problem(law=fit.law, x=x, log_loss=log_loss, low=low, high=high, delta=fit.delta)
    start_BP = np.repeat(fit.theta[None], len(weights_BI), axis=0)
    return minimise(problem, start_BP, weights_BI, tolerance=TOLERANCE, max_steps=100).theta


def _intervals(fit: Fit, parameters: Array, inflation: float) -> dict[str, tuple[float, float]]:
    """Return percentiles, moved away from the estimate by `inflation`; on the log scale if a parameter is positive."""
    bounds_95 = np.quantile(parameters, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    intervals = {}
    for name, (low, high), value in zip(fit.law.parameters, bounds_95.T, fit.parameters.values(), strict=True):
        if low > 0:
            wide = value * (np.array([low, high]) / value) ** inflation
        else:
            wide = value + (np.array([low, high]) - value) * inflation
        intervals[name] = (float(wide[0]), float(wide[1]))
    return intervals


def predictions(fit: Fit, draws_BP: Array, table: Observations) -> Array:
    """Return the log loss that every draw predicts for the rows of a table, (B, I)."""
    columns = {name: column for name, column in table.variables().items() if name in fit.law.variables}
    return log_prediction(fit.law, draws_BP, fit.centred(columns))
