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
from numpy.typing import NDArray

from analysis.laws.forms import Array, Law

CHUNK = 128
"""Fits that are advanced together, so few that their arrays stay in the processor's cache."""
MOST_MU = 1e12
RIDGE = 1e-12
"""Relative to the diagonal: keeps a direction that no observation informs solvable."""


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """Where the minimiser ended, one row per fit."""

    theta: Array
    """(B, P)."""
    objective: Array
    """Sum of weighted Huber terms, (B,)."""
    converged: NDArray[np.bool_]
    """Whether no step improved it by more than the tolerance, (B,)."""


def log_prediction(law: Law, theta_BP: Array, x: dict[str, Array]) -> Array:
    """Log of the predicted loss, (B, I)."""
    K = len(law.coefficients)
    logs, _ = law.basis(theta_BP[:, K:], x)
    terms = (np.exp(theta_BP[:, k, None] + h) for k, h in enumerate(logs))
    total: Array = sum(terms, np.zeros_like(x["n"]))
    return np.log(total)


def huber(residual: Array, delta: float) -> Array:
    """Huber's loss (1964): quadratic within delta, linear beyond."""
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    return np.asarray(inside * (size - 0.5 * inside))


def minimise(
    law: Law,
    x: dict[str, Array],
    log_loss_I: Array,
    start_BP: Array,
    weights_BI: Array,
    box: tuple[Array, Array],
    *,
    delta: float,
    tolerance: float = 1e-9,
    most: int = 200,
) -> Minimum:
    """The nearest minimum of every fit: weights (B, I) or (1, I), starts (B, P), `box` its bounds, each (P,).

    `tolerance` is the relative improvement below which a step no longer counts; `most` limits the number of steps.
    """
    parts = []
    for first in range(0, len(start_BP), CHUNK):
        rows = slice(first, first + CHUNK)
        weights = weights_BI if len(weights_BI) == 1 else weights_BI[rows]
        parts.append(_descend(law, x, log_loss_I, start_BP[rows], weights, box, delta, tolerance, most))
    return Minimum(
        theta=np.concatenate([part.theta for part in parts]),
        objective=np.concatenate([part.objective for part in parts]),
        converged=np.concatenate([part.converged for part in parts]),
    )


def _descend(
    law: Law,
    x: dict[str, Array],
    log_loss_I: Array,
    start_BP: Array,
    weights_BI: Array,
    box: tuple[Array, Array],
    delta: float,
    tolerance: float,
    most: int,
) -> Minimum:
    theta = np.clip(start_BP, *box)
    weights = np.broadcast_to(weights_BI, (len(theta), len(log_loss_I)))
    residual = log_prediction(law, theta, x) - log_loss_I
    objective = (weights * huber(residual, delta)).sum(axis=1)
    mu = np.ones(len(theta))
    small = np.zeros(len(theta), dtype=np.int64)
    open_ = np.arange(len(theta))
    for _ in range(most):
        before = objective[open_]
        there = np.clip(theta[open_] + _step(law, x, theta[open_], residual[open_], weights[open_], mu[open_], box, delta), *box)
        residual_there = log_prediction(law, there, x) - log_loss_I
        after = (weights[open_] * huber(residual_there, delta)).sum(axis=1)
        better = after < before
        won = open_[better]
        theta[won], residual[won], objective[won] = there[better], residual_there[better], after[better]
        mu[open_] = np.where(better, np.minimum(mu[open_], 1) / 8, np.maximum(mu[open_], 1e-9) * 16)
        # A failed step says nothing until the damping is so large that only a stationary point can refuse it.
        tiny = before - after <= tolerance * before
        small[open_] = np.where(better & ~tiny, 0, small[open_] + np.where(better, 1, 0))
        open_ = open_[(small[open_] < 2) & (mu[open_] < MOST_MU)]
        if not len(open_):
            break
    converged = np.ones(len(theta), dtype=np.bool_)
    converged[open_] = False
    return Minimum(theta=theta, objective=objective, converged=converged)


def _step(law, x, theta, residual, weights, mu, box, delta):
    J_BPI = jacobian(law, theta, x)
    size = np.abs(residual)
    inside = size <= delta
    scale = mu[:, None]
    q = weights * np.where(inside, np.maximum(1, scale), scale * delta / np.maximum(size, delta))
    gradient = (J_BPI @ (weights * np.clip(residual, -delta, delta))[:, :, None])[:, :, 0]
    H = (J_BPI * q[:, None, :]) @ J_BPI.transpose(0, 2, 1)
    low, high = box
    stuck = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
    gradient = np.where(stuck, 0, gradient)
    H = np.where(stuck[:, :, None] | stuck[:, None, :], 0, H)
    diagonal = np.einsum("bpp->bp", H)
    diagonal += np.where(stuck, 1, RIDGE * diagonal + 1e-300)
    return -np.linalg.solve(H, gradient[:, :, None])[:, :, 0]


def jacobian(law: Law, theta_BP: Array, x: dict[str, Array]) -> Array:
    """Slopes of the log of the predicted loss, (B, P, I)."""
    K = len(law.coefficients)
    logs, slopes = law.basis(theta_BP[:, K:], x)
    J = np.zeros((len(theta_BP), law.n_parameters, len(x["n"])))
    for k, h in enumerate(logs):
        J[:, k] = np.exp(theta_BP[:, k, None] + h)
    J[:, :K] /= J[:, :K].sum(axis=1, keepdims=True)
    for k, m, slope in slopes:
        J[:, K + m] += J[:, k] * slope
    return J
