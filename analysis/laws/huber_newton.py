"""Minimise the sum of Huber losses on the log of the loss, for many weightings of the same observations at once.

The step solves (J q J') step = -J psi, where psi is Huber's influence and q its curvature: 1 inside delta, mu * delta / |r|
outside. mu = 1 is the majoriser of iteratively reweighted least squares (Holland & Welsch 1977), which never increases the
objective; mu -> 0 is Newton's method with the Gauss-Newton Hessian, which converges fast. mu falls with every success and
grows with every failure; above 1 it acts as the damping of Levenberg and Marquardt. Bounds are kept by projection
(Bertsekas 1982).

Shape suffixes as in `forms`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.laws.forms import Array, Law

CHUNK = 128
"""Number of fits advanced together, small enough that their arrays stay in the processor's cache."""
MIN_MU, MAX_MU = 1e-9, 1e12
FALL, GROWTH = 8.0, 16.0
RIDGE = 1e-12
"""Ridge relative to the diagonal: keeps the system solvable if no observation informs a direction."""
SMALL_STEPS = 2
"""Number of consecutive successes below the tolerance that ends a fit."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The law and data that all fits of a batch share."""

    law: Law
    x: dict[str, Array]
    """Centred logs of the columns, each (I,)."""
    log_loss: Array
    """Log of the observed losses, (I,)."""
    low: Array
    high: Array
    """Bounds of theta, each (P,)."""
    delta: float
    """Residual beyond which Huber's loss is linear."""

    def residual(self, theta_BP: Array) -> Array:
        """Return the predicted minus the observed log loss, (B, I)."""
        return log_prediction(self.law, theta_BP, self.x) - self.log_loss


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """Result of the minimiser, one row per fit."""

    theta: Array
    """Parameters at the minimum, (B, P)."""
    objective: Array
    """Sum of weighted Huber terms, (B,)."""


def log_prediction(law: Law, theta_BP: Array, x: dict[str, Array]) -> Array:
    """Return the log of the predicted loss, (B, I)."""
    K = len(law.coefficients)
    logs, _ = law.basis(theta_BP[:, K:], x)
    total = np.zeros((len(theta_BP), len(next(iter(x.values())))))
    for k, h in enumerate(logs):
        total += np.exp(theta_BP[:, k, None] + h)
    return np.log(total)


def jacobian(law: Law, theta_BP: Array, x: dict[str, Array]) -> Array:
    """Return the derivatives of the log of the predicted loss by theta, (B, P, I)."""
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
    """Return Huber's loss (1964): quadratic within delta, linear beyond."""
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    return np.asarray(inside * (size - 0.5 * inside))


def minimise(problem: Problem, start_BP: Array, weights_BI: Array, *, tolerance: float, max_steps: int) -> Minimum:
    """Return the nearest local minimum of every fit; weights are (B, I) or (1, I).

    `tolerance` is the relative improvement below which a step counts as small.
    """
    parts = []
    for first in range(0, len(start_BP), CHUNK):
        rows = slice(first, first + CHUNK)
        weights = weights_BI if len(weights_BI) == 1 else weights_BI[rows]
        parts.append(_descend(problem, start_BP[rows], weights, tolerance, max_steps))
    return Minimum(
        theta=np.concatenate([part.theta for part in parts]),
        objective=np.concatenate([part.objective for part in parts]),
    )


def _descend(problem: Problem, start_BP: Array, weights_BI: Array, tolerance: float, max_steps: int) -> Minimum:
    """Minimise one chunk of fits together; a fit that is done takes no further steps."""
    theta = np.clip(start_BP, problem.low, problem.high)
    residual = problem.residual(theta)
    weights = np.broadcast_to(weights_BI, residual.shape)
    objective = (weights * huber(residual, problem.delta)).sum(axis=1)
    mu = np.ones(len(theta))
    small = np.zeros(len(theta), dtype=np.int64)
    active = np.arange(len(theta))
    for _ in range(max_steps):
        before = objective[active]
        step = _step(problem, theta[active], residual[active], weights[active], mu[active])
        proposal = np.clip(theta[active] + step, problem.low, problem.high)
        proposal_residual = problem.residual(proposal)
        after = (weights[active] * huber(proposal_residual, problem.delta)).sum(axis=1)
        better = after < before
        accepted = active[better]
        theta[accepted], residual[accepted], objective[accepted] = proposal[better], proposal_residual[better], after[better]
        mu[active] = np.where(better, np.minimum(mu[active], 1) / FALL, np.maximum(mu[active], MIN_MU) * GROWTH)
        # A failed step does not count as small: only at the strongest damping does failure mean a minimum.
        improved = before - after > tolerance * before
        small[active] = np.where(improved, 0, small[active] + better)
        active = active[(small[active] < SMALL_STEPS) & (mu[active] < MAX_MU)]
        if not len(active):
            break
    return Minimum(theta=theta, objective=objective)


def _step(problem: Problem, theta_BP: Array, residual_BI: Array, weights_BI: Array, mu_B: Array) -> Array:
    """Return the next step of every fit, (B, P); a parameter held at its bound does not move."""
    J_BPI = jacobian(problem.law, theta_BP, problem.x)
    delta, mu, size = problem.delta, mu_B[:, None], np.abs(residual_BI)
    influence = weights_BI * np.clip(residual_BI, -delta, delta)
    curvature = weights_BI * np.where(size <= delta, np.maximum(1, mu), mu * delta / np.maximum(size, delta))
    gradient = (J_BPI @ influence[:, :, None])[:, :, 0]
    hessian = (J_BPI * curvature[:, None, :]) @ J_BPI.transpose(0, 2, 1)
    fixed = ((theta_BP <= problem.low) & (gradient > 0)) | ((theta_BP >= problem.high) & (gradient < 0))
    gradient = np.where(fixed, 0, gradient)
    hessian = np.where(fixed[:, :, None] | fixed[:, None, :], 0, hessian)
    diagonal = np.einsum("bpp->bp", hessian)
    diagonal += np.where(fixed, 1, RIDGE * diagonal + np.finfo(np.float64).tiny)
    return np.asarray(-np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0])
