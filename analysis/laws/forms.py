"""Functional forms of the loss in parameters N, tokens D and unique tokens U.

Every law is a sum of non-negative terms, `loss = sum_k c_k exp(h_k(shape, x))`. Given the shape (the exponents) it is
linear in the coefficients c, which variable projection uses. In theta = (log c, shape) it is smooth, which Newton's
method uses.

Shape suffixes: B fits (bootstraps or starts), K terms, M shape parameters, P = K + M parameters, I observations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Slope = tuple[int, int, Array]
"""Term k, shape parameter m, and dh_k/dshape_m, (I,) or (B, I)."""
Basis = Callable[[Array, dict[str, Array]], tuple[list[Array], list[Slope]]]
"""(shape_BM, centred logs) -> the h_k, each (I,) or (B, I), and their non-zero slopes."""
Natural = Callable[[Array, dict[str, float]], Array]
"""(theta_BP, means of the logs) -> parameters of the published formula, (B, P)."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One parameter inside the terms, usually an exponent of a centred variable."""

    name: str
    low: float
    high: float
    grid: tuple[float, ...]
    """Starting values of the search."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """One functional form."""

    name: str
    formula: str
    source: str
    coefficients: tuple[str, ...]
    """Names of the K non-negative factors, in the order of the terms."""
    shapes: tuple[Shape, ...]
    parameters: tuple[str, ...]
    """Names of the P reported parameters, in the order of `natural`."""
    variables: tuple[str, ...]
    """Required columns, among `n`, `d` and `u`."""
    basis: Basis
    natural: Natural
    can_rise: bool = False
    """Whether the loss may rise with N."""
    extrapolates: bool = True
    """False for a law that only describes the fitted range."""
    least_budgets: int = 1
    """Smallest number of distinct N to which the law can be fitted."""

    @property
    def n_parameters(self) -> int:
        """Number of free parameters, P."""
        return len(self.coefficients) + len(self.shapes)


@dataclass(frozen=True, kw_only=True)
class Term:
    """A term coefficient * product of variable**(sign * exponent)."""

    coefficient: str
    powers: tuple[tuple[str, str, int], ...] = ()
    """Exponent's name, variable and sign of each factor."""


def spread(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return a geometric grid of positive exponents."""
    return tuple(float(value) for value in np.geomspace(low, high, count))


def exponent(name: str, *, count: int, low: float = 0.005, high: float = 3.0) -> Shape:
    """Return a positive exponent between `low` and `high`, searched from a grid from 0.04 to 1.6."""
    return Shape(name=name, low=low, high=high, grid=spread(0.04, 1.6, count))


def sum_of_powers(
    name: str,
    formula: str,
    source: str,
    terms: tuple[Term, ...],
    shapes: tuple[Shape, ...],
    *,
    can_rise: bool = False,
) -> Law:
    """Return a law whose terms are products of powers: all but Kaplan's, the broken law and the parabola."""
    index = {shape.name: m for m, shape in enumerate(shapes)}

    def basis(shape_BM: Array, x: dict[str, Array]) -> tuple[list[Array], list[Slope]]:
        logs: list[Array] = []
        slopes: list[Slope] = []
        for k, term in enumerate(terms):
            h: Array = np.zeros(1)
            for power, variable, sign in term.powers:
                h = h + shape_BM[:, index[power], None] * (sign * x[variable])
                slopes.append((k, index[power], sign * x[variable]))
            logs.append(h)
        return logs, slopes

    def natural(theta_BP: Array, mean: dict[str, float]) -> Array:
        parameters_BP = theta_BP.copy()
        for k, term in enumerate(terms):
            shift_B = sum(sign * theta_BP[:, len(terms) + index[power]] * mean[v] for power, v, sign in term.powers)
            parameters_BP[:, k] = np.exp(theta_BP[:, k] - shift_B)
        return parameters_BP

    return Law(
        name=name,
        formula=formula,
        source=source,
        coefficients=tuple(term.coefficient for term in terms),
        shapes=shapes,
        parameters=(*(term.coefficient for term in terms), *(shape.name for shape in shapes)),
        variables=tuple(sorted({variable for term in terms for _, variable, _ in term.powers} | {"n"})),
        basis=basis,
        natural=natural,
        can_rise=can_rise,
    )
