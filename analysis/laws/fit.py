"""Fit laws to observations: grid, linear solve, then Newton's method on the sum of Huber losses of the log residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from analysis.laws import flags
from analysis.laws.catalogue import BY_NAME, law_named
from analysis.laws.forms import Array, Law
from analysis.laws.huber_newton import Problem, log_prediction, minimise
from analysis.laws.initial_grid import starts
from analysis.laws.observations import Observations
from research.errors import InputError, require

DELTA = 1e-3
WIDE = 0.03
"""Delta of the first minimisation."""
STARTS = 8
AGREE = 1e-6
"""Relative difference of objectives below which two starts reached the same minimum."""
NO_MISFIT = 1e-15
"""Objective from rounding errors alone: the law passes through every point."""
TOLERANCE = 1e-13
SMALLEST, LARGEST = 10.0, 5.0
"""Bounds on the log of a centred coefficient, below and above the mean log loss."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law fitted to a table."""

    law: Law
    parameters: dict[str, float]
    """Parameters of the law's formula, in the units of the table."""
    objective: float
    """Sum of Huber terms of the log residuals."""
    delta: float
    n_points: int
    starts_agree: bool
    """Whether all starts ended in the same minimum."""
    flags: tuple[str, ...]
    """Warnings, explained by `flags.MEANINGS`."""
    theta: Array = field(repr=False)
    """Log coefficients and shape parameters for centred logs, (P,)."""
    means: dict[str, float] = field(repr=False)
    """Means that were subtracted from the logs of the columns."""
    range_n: tuple[float, float]
    """Smallest and largest fitted N."""
    residuals: Array = field(repr=False)
    """Observed minus predicted log loss, (I,)."""

    def centred(self, columns: dict[str, Array]) -> dict[str, Array]:
        """Return the logs of the columns minus the means of the fit, each (I,)."""
        return {name: np.log(column) - self.means[name] for name, column in columns.items()}

    def predict(self, n: ArrayLike, d: ArrayLike | None = None, unique: ArrayLike | None = None) -> Array:
        """Return the predicted losses of broadcast columns.

        `InputError` outside the fitted N if the law only interpolates, or without `d` if the law needs the tokens.
        """
        sizes = np.atleast_1d(np.asarray(n, dtype=np.float64))
        low, high = self.range_n
        outside = bool((sizes < low).any() or (sizes > high).any())
        fix = f"{self.law.name} only interpolates, from {low:g} to {high:g}; choose another law to extrapolate."
        require(self.law.extrapolates or not outside, "n", f"{sizes.max():g}", fix)
        require(d is not None or "d" not in self.law.variables, "d", None, f"{self.law.name} needs the tokens; give d.")
        values = {"n": sizes, "d": d, "u": d if unique is None else unique}
        arrays = np.broadcast_arrays(*(np.asarray(values[name], dtype=np.float64) for name in self.law.variables))
        columns = dict(zip(self.law.variables, arrays, strict=True))
        return np.asarray(np.exp(log_prediction(self.law, self.theta[None], self.centred(columns))[0]))


def fit_laws(table: Observations, laws: str | Sequence[str] = "all", *, delta: float = DELTA) -> tuple[Fit, ...]:
    """Fit the named laws, or all laws for which the table has enough columns and points.

    `delta` is the log residual beyond which Huber's loss is linear. `InputError` for an unknown law or one that the table
    cannot determine.
    """
    require(delta > 0, "DELTA", delta, "give a positive number, for example 0.001.")
    if laws == "all":
        return tuple(fit_law(law, table, delta=delta) for law in BY_NAME.values() if not obstacle(law, table))
    return tuple(fit_law(law_named(name), table, delta=delta) for name in ([laws] if isinstance(laws, str) else laws))


def fit_law(law: Law, table: Observations, *, delta: float = DELTA) -> Fit:
    """Fit one law; raise `InputError` if the table cannot determine it."""
    if reason := obstacle(law, table):
        raise InputError(reason)
    columns = {name: np.log(column) for name, column in table.variables().items() if name in law.variables}
    means = {name: float(column.mean()) for name, column in columns.items()}
    x = {name: column - means[name] for name, column in columns.items()}
    log_loss = np.log(table.loss)
    low, high = bounds(law, log_loss)
    # A wide Huber loss is smoother and avoids the shallow minima of a narrow one.
    wide = Problem(law=law, x=x, log_loss=log_loss, low=low, high=high, delta=max(delta, WIDE))
    weights = np.ones((1, len(table)))
    near = minimise(wide, starts(law, x, log_loss, STARTS), weights, tolerance=1e-6, max_steps=60)
    minima = minimise(replace(wide, delta=delta), near.theta, weights, tolerance=TOLERANCE, max_steps=1000)
    best = int(minima.objective.argmin())
    theta, objective = minima.theta[best], float(minima.objective[best])
    residuals = log_loss - log_prediction(law, theta[None], x)[0]
    agree = bool((minima.objective <= objective * (1 + AGREE) + NO_MISFIT).all())
    return Fit(
        law=law,
        parameters=dict(zip(law.parameters, map(float, law.natural(theta[None], means)[0]), strict=True)),
        objective=objective,
        delta=delta,
        n_points=len(table),
        starts_agree=agree,
        flags=flags.fit_flags(law, theta, (low, high), table, residuals, agree=agree),
        theta=theta,
        means=means,
        range_n=(float(table.n.min()), float(table.n.max())),
        residuals=residuals,
    )


def bounds(law: Law, log_loss_I: Array) -> tuple[Array, Array]:
    """Return the lower and upper bounds of theta, each (P,)."""
    level, K = float(log_loss_I.mean()), len(law.coefficients)
    low = [level - SMALLEST] * K + [shape.low for shape in law.shapes]
    high = [level + LARGEST] * K + [shape.high for shape in law.shapes]
    return np.array(low), np.array(high)


def obstacle(law: Law, table: Observations) -> str:
    """Return why the table cannot determine the law, with the remedy; empty if it can."""
    columns = table.variables()
    if not set(law.variables) <= set(columns):
        return f"LAW={law.name}: it needs the tokens D; name their column with --d, or choose a law of N alone."
    for name in law.variables if law.shapes else ():
        if np.ptp(columns[name]) == 0:
            return f"{name}={columns[name][0]:g}: the same in every row; {law.name} needs it to vary. Fit the constant law."
    cells = len(np.unique(np.stack([columns[name] for name in law.variables], axis=1), axis=0))
    if law.shapes and cells <= law.n_parameters:
        names = ", ".join(name.upper() for name in law.variables)
        return (
            f"LAW={law.name}: {cells} distinct points of {names} cannot determine {law.n_parameters} parameters; "
            f"give at least {law.n_parameters + 1} or choose a smaller law."
        )
    sizes = len(np.unique(table.n))
    if sizes < law.least_budgets:
        return f"LAW={law.name}: {sizes} distinct N; a break needs at least {law.least_budgets}. Choose another law."
    return ""
