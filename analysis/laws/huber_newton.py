"""Minimise the sum of Huber losses on the log of the loss, for many weightings of the same observations at once.

The step solves (J q J') step = -J psi, where psi is Huber's influence and q its curvature: 1 inside delta, mu * delta / |r|
outside. mu = 1 is the majoriser of iteratively reweighted least squares (Holland & Welsch 1977), which never goes astray;
mu -> 0 is Newton's method with the Gauss-Newton Hessian, which ends fast. mu falls with every success and grows with every
failure, beyond 1 as the damping of Levenberg and Marquardt. Bounds are kept by projection (Bertsekas 1982).

Shape suffixes as in `forms`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.laws.forms import Array, Law

CHUNK = 128
"""Fits that are advanced together, so few that their arrays stay in the processor's cache."""
LEAST_MU, MOST_MU = 1e-9, 1e12
FALL, GROWTH = 8.0, 16.0
RIDGE = 1e-12
"""Relative to the diagonal: keeps a direction that no observation informs solvable."""
SMALL_STEPS = 2
"""Successes in a row below the tolerance after which a fit is done."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What all fits of a batch share."""

    law: Law
    x: dict[str, Array]
    """Centred logs of the columns, each (I,)."""
    log_loss: Array
    """(I,)."""
    low: Array
    """Bounds of theta, (P,)."""
    high: Array
    delta: float

    def residual(self, theta_BP: Array) -> Array:
        """Predicted minus observed log loss, (B, I)."""
        return log_prediction(self.law, theta_BP, self.x) - self.log_loss


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """Where the minimiser ended, one row per fit."""

    theta: Array
    """(B, P)."""
    objective: Array
    """Sum of weighted Huber terms, (B,)."""


def log_prediction(law: Law, theta_BP: Array, x: dict[str, Array]) -> Array:
    """Log of the predicted loss, (B, I)."""
    K = len(law.coefficients)
    logs, _ = law.basis(theta_BP[:, K:], x)
    total = np.zeros((len(theta_BP), len(next(iter(x.values())))))
    for k, h in enumerate(logs):
        total += np.exp(theta_BP[:, k, None] + h)
    return np.log(total)


def jacobian(law: Law, theta_BP: Array, x: dict[str, Array]) -> Array:
    """Slopes of the log of the predicted loss, (B, P, I)."""
    K = len(law.coefficients)
    logs, slopes = law.basis(theta_BP[:, K:], x)
    J = np.zeros((len(theta_BP), law.n_parameters, len(next(iter(x.values())))))
    for k, h in enumerate(logs):
        J[:, k] = np.exp(theta_BP[:, k, None] + h)
    J[:, :K] /= J[:, :K].sum(axis=1, keepdims=True)
    for k, m, slope in slopes:
        J[:, K + m] += J[:, k] * slope
    return J


def huber(residual: Array, delta: float) -> Array:
    """Huber's loss (1964): quadratic within delta, linear beyond."""
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    return np.asarray(inside * (size - 0.5 * inside))


def minimise(problem: Problem, start_BP: Array, weights_BI: Array, *, tolerance: float, most: int) -> Minimum:
    """The nearest minimum of every fit, weights (B, I) or (1, I).

    `tolerance` is the relative improvement below which a step no longer counts; `most` limits the number of steps.
    """
    parts = []
    for first in range(0, len(start_BP), CHUNK):
        rows = slice(first, first + CHUNK)
        weights = weights_BI if len(weights_BI) == 1 else weights_BI[rows]
        parts.append(_descend(problem, start_BP[rows], weights, tolerance, most))
    return Minimum(
        theta=np.concatenate([part.theta for part in parts]),
        objective=np.concatenate([part.objective for part in parts]),
    )


def _descend(problem: Problem, start_BP: Array, weights_BI: Array, tolerance: float, most: int) -> Minimum:
    theta = np.clip(start_BP, problem.low, problem.high)
    residual = problem.residual(theta)
    weights = np.broadcast_to(weights_BI, residual.shape)
    objective = (weights * huber(residual, problem.delta)).sum(axis=1)
    mu = np.ones(len(theta))
    small = np.zeros(len(theta), dtype=np.int64)
    going = np.arange(len(theta))
    for _ in range(most):
        before = objective[going]
        step = _step(problem, theta[going], residual[going], weights[going], mu[going])
        there = np.clip(theta[going] + step, problem.low, problem.high)
        residual_there = problem.residual(there)
        after = (weights[going] * huber(residual_there, problem.delta)).sum(axis=1)
        better = after < before
        won = going[better]
        theta[won], residual[won], objective[won] = there[better], residual_there[better], after[better]
        mu[going] = np.where(better, np.minimum(mu[going], 1) / FALL, np.maximum(mu[going], LEAST_MU) * GROWTH)
        # A failed step tells nothing, until the damping is so strong that only a minimum can refuse it.
        gained = before - after > tolerance * before
        small[going] = np.where(gained, 0, small[going] + better)
        going = going[(small[going] < SMALL_STEPS) & (mu[going] < MOST_MU)]
        if not len(going):
            break
    return Minimum(theta=theta, objective=objective)


def _step(problem: Problem, theta_BP: Array, residual_BI: Array, weights_BI: Array, mu_B: Array) -> Array:
    """The next step of every fit, (B, P)."""
    J_BPI = jacobian(problem.law, theta_BP, problem.x)
    delta, mu, size = problem.delta, mu_B[:, None], np.abs(residual_BI)
    influence = weights_BI * np.clip(residual_BI, -delta, delta)
    curvature = weights_BI * np.where(size <= delta, np.maximum(1, mu), mu * delta / np.maximum(size, delta))
    gradient = (J_BPI @ influence[:, :, None])[:, :, 0]
    hessian = (J_BPI * curvature[:, None, :]) @ J_BPI.transpose(0, 2, 1)
    held = ((theta_BP <= problem.low) & (gradient > 0)) | ((theta_BP >= problem.high) & (gradient < 0))
    gradient = np.where(held, 0, gradient)
    hessian = np.where(held[:, :, None] | held[:, None, :], 0, hessian)
    diagonal = np.einsum("bpp->bp", hessian)
    diagonal += np.where(held, 1, RIDGE * diagonal + np.finfo(np.float64).tiny)
    return np.asarray(-np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0])
