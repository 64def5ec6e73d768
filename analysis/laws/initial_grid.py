"""Where the minimiser begins: a grid over the shape, the coefficients by non-negative least squares on each point.

Variable projection (Golub & Pereyra 1973): given its shape a law is linear in its coefficients. The squares are of
relative errors, which near the optimum are the errors of the log.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np

from analysis.laws.forms import Array, Law

RIDGE = 1e-10
LEAST_SHARE = 1e-3
"""A term that the linear solve sets to zero begins at this share of the loss: its log has to be finite."""


def starts(law: Law, x: dict[str, Array], log_loss_I: Array, count: int) -> Array:
    """The `count` best points of the law's grid, (count, P), best first."""
    grid_GM = np.array(list(product(*(shape.grid for shape in law.shapes))), dtype=np.float64)
    logs, _ = law.basis(grid_GM, x)
    width = (len(grid_GM), len(log_loss_I))
    # Columns relative to the loss: the target is 1 everywhere.
    basis_GKI = np.stack([np.exp(np.broadcast_to(h, width) - log_loss_I) for h in logs], axis=1)
    coefficients, squares = non_negative(basis_GKI)
    best = np.argsort(squares, kind="stable")[:count]
    least = LEAST_SHARE * np.exp(log_loss_I.mean())
    return np.concatenate([np.log(np.maximum(coefficients[best], least)), grid_GM[best]], axis=1)


def non_negative(basis_GKI: Array) -> tuple[Array, Array]:
    """Non-negative coefficients (G, K) that bring each of G bases nearest to 1, and the sums of squares (G,).

    With four terms at most every set of positive coefficients is tried, all grid points at once.
    """
    G, K, points = basis_GKI.shape
    gram, to_one = basis_GKI @ basis_GKI.transpose(0, 2, 1), basis_GKI.sum(axis=2)
    squares, found = np.full(G, float(points)), np.zeros((G, K))
    for size in range(1, K + 1):
        for chosen in map(list, combinations(range(K), size)):
            system = gram[:, chosen][:, :, chosen]
            system = system + RIDGE * np.einsum("gkk->gk", system)[:, :, None] * np.eye(size)
            solved = np.linalg.solve(system, to_one[:, chosen, None])[:, :, 0]
            left = points - (solved * to_one[:, chosen]).sum(axis=1)
            better = (solved >= 0).all(axis=1) & (left < squares)
            squares[better] = left[better]
            found[better] = 0
            found[np.ix_(better, chosen)] = solved[better]
    return found, squares
