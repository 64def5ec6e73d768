"""Starting points of the minimiser: a grid over the shape, with coefficients by non-negative least squares.

Variable projection (Golub & Pereyra 1973): given its shape, a law is linear in its coefficients. The squared errors are
relative; near the optimum they equal errors of the log.

Shape suffixes as in `forms`, with G points of the grid.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np

from analysis.laws.forms import Array, Law

RIDGE = 1e-10
LEAST_SHARE = 1e-3
"""Starting share of the loss for a term that the linear solve sets to zero, whose log must be finite."""


def starts(law: Law, x: dict[str, Array], log_loss_I: Array, count: int) -> Array:
    """Return the `count` best points of the law's grid, (count, P), best first."""
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
    """Return the non-negative coefficients (G, K) that bring each basis nearest to 1, and the sums of squares (G,).

    With at most four terms, every set of positive coefficients is tried for all grid points at once.
    """
    G, K, points = basis_GKI.shape
    gram, to_one = basis_GKI @ basis_GKI.transpose(0, 2, 1), basis_GKI.sum(axis=2)
    squares, coefficients = np.full(G, float(points)), np.zeros((G, K))
    for size in range(1, K + 1):
        for terms in map(list, combinations(range(K), size)):
            system = gram[:, terms][:, :, terms]
            system = system + RIDGE * np.einsum("gkk->gk", system)[:, :, None] * np.eye(size)
            solution = np.linalg.solve(system, to_one[:, terms, None])[:, :, 0]
            remaining = points - (solution * to_one[:, terms]).sum(axis=1)
            better = (solution >= 0).all(axis=1) & (remaining < squares)
            squares[better] = remaining[better]
            coefficients[better] = 0
            coefficients[np.ix_(better, terms)] = solution[better]
    return coefficients, squares
