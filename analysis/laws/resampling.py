"""What the fit would have been on other draws of the clusters and seeds, all draws at once."""

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
"""Relative improvement of an objective below which a draw is done: far below the spread between draws."""
NORMAL_95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """Parameters of a law over draws of the clusters."""

    parameters: Array = field(repr=False)
    """(B, P), in the order of `law.parameters`."""
    theta: Array = field(repr=False)
    """The same as the minimiser sees them, (B, P)."""
    standard_errors: dict[str, float]
    """Standard deviation over draws; of a coefficient whose log varies widely, read the interval instead."""
    intervals: dict[str, tuple[float, float]]
    """95%, by percentiles about the estimate, wider by Student's t where clusters are few."""
    n_clusters: int
    inflation: float
    """Factor by which the percentiles are wider than a plain bootstrap's."""


def bootstrap(fit: Fit, table: Observations, *, resamples: int = RESAMPLES, seed: int = 0) -> Bootstrap:
    """Cluster bootstrap (Cameron, Gelbach & Miller 2008) with multinomial weights: B new fits from the old optimum.

    `table` is what was fitted. Where cells hold several seeds, those are drawn too, in a bootstrap of their own, and the
    wider of the two is kept: a nearly absolute loss passes between the seeds of every budget and need not move, however
    often a budget is drawn. The law is taken for true: the spread between laws is in `predict`.
    """
    clusters = int(table.cluster.max()) + 1
    P = fit.law.n_parameters
    fix = f"too few to draw from for {P} parameters; leave --cluster out or choose a smaller law."
    require(clusters > P, "CLUSTER", f"{clusters} clusters", fix)
    require(resamples >= 2, "BOOTSTRAP", resamples, "give at least 2 draws, 4000 for an interval.")
    theta, inflation = refitted(fit, table, of_clusters(table, resamples, P, seed)), _student(clusters - P)
    if len(cells := table.cells()) < len(table):
        other = refitted(fit, table, of_seeds(cells, resamples, seed))
        wider = _student(len(table) - P)
        if wider * _spread(fit, other, table) > inflation * _spread(fit, theta, table):
            theta, inflation = other, wider
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
    """Student's t over the normal, at 95%.

    No factor for the parameters that are fitted: draws of a nearly absolute loss vary a little more than its estimates
    do, which makes up for it (the simulations of tests/analysis/laws).
    """
    return float(stdtrit(freedom, (1 + LEVEL) / 2) / NORMAL_95)


def _spread(fit: Fit, theta: Array, table: Observations) -> float:
    """Root mean square over the rows of the standard deviation of the predicted log loss."""
    return float(np.sqrt(predictions(fit, theta, table).var(axis=0).mean()))


def of_clusters(table: Observations, resamples: int, least: int, seed: int) -> Array:
    """How often each row is in each draw, (B, I): whole clusters, at least `least` different ones."""
    rng = np.random.default_rng(seed)
    clusters = int(table.cluster.max()) + 1
    even = np.full(clusters, 1 / clusters)
    counts = rng.multinomial(clusters, even, size=resamples)
    while len(poor := np.flatnonzero((counts > 0).sum(axis=1) < least)):
        counts[poor] = rng.multinomial(clusters, even, size=len(poor))
    return counts[:, table.cluster].astype(np.float64)


def of_seeds(cells: list[NDArray[np.intp]], resamples: int, seed: int) -> Array:
    """The same for draws of the seeds within every cell, (B, I)."""
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, sum(map(len, cells))))
    for rows in cells:
        weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples)
    return weights


def refitted(fit: Fit, table: Observations, weights_BI: Array) -> Array:
    """Theta of every weighting of the rows, (B, P)."""
    x = fit.centred({name: column for name, column in table.variables().items() if name in fit.law.variables})
    log_loss = np.log(table.loss)
    low, high = bounds(fit.law, log_loss)
    problem = Problem(law=fit.law, x=x, log_loss=log_loss, low=low, high=high, delta=fit.delta)
    begin = np.repeat(fit.theta[None], len(weights_BI), axis=0)
    return minimise(problem, begin, weights_BI, tolerance=TOLERANCE, max_steps=100).theta


def _intervals(fit: Fit, parameters: Array, inflation: float) -> dict[str, tuple[float, float]]:
    """Percentiles, moved away from the estimate by `inflation`; on the log scale where a parameter is positive."""
    bounds_95 = np.quantile(parameters, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    found = {}
    for name, (low, high), value in zip(fit.law.parameters, bounds_95.T, fit.parameters.values(), strict=True):
        if low > 0:
            wide = value * (np.array([low, high]) / value) ** inflation
        else:
            wide = value + (np.array([low, high]) - value) * inflation
        found[name] = (float(wide[0]), float(wide[1]))
    return found


def predictions(fit: Fit, draws_BP: Array, table: Observations) -> Array:
    """Log of the loss that every draw predicts for the rows of a table, (B, I)."""
    columns = {name: column for name, column in table.variables().items() if name in fit.law.variables}
    return log_prediction(fit.law, draws_BP, fit.centred(columns))
