"""Fit laws to observations: grid, linear solve, then Newton on the sum of Huber losses of the log residuals."""

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
"""Delta of the first descent."""
STARTS = 8
AGREE = 1e-6
"""Relative difference of objectives within which two starts found the same minimum."""
NO_MISFIT = 1e-15
"""An objective of rounding errors: the law meets every point."""
TOLERANCE = 1e-13
SMALLEST, LARGEST = 10.0, 5.0
"""The log of a centred coefficient lies within these of the mean log loss."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One law fitted to one table."""

    law: Law
    parameters: dict[str, float]
    """As in the law's formula, in the units of the table."""
    objective: float
    """Sum of Huber terms."""
    delta: float
    n_points: int
    starts_agree: bool
    """Whether all starts ended in the same minimum."""
    flags: tuple[str, ...]
    """What to beware of; `flags.MEANINGS` explains them."""
    theta: Array = field(repr=False)
    """Log coefficients and shape, of centred logs, (P,)."""
    means: dict[str, float] = field(repr=False)
    """Means of the logs that were subtracted."""
    range_n: tuple[float, float]
    """Smallest and largest N that were fitted."""
    residuals: Array = field(repr=False)
    """Log of the loss minus its prediction, (I,)."""

    def centred(self, columns: dict[str, Array]) -> dict[str, Array]:
        """Logs of the columns minus the means of the fit."""
        return {name: np.log(column) - self.means[name] for name, column in columns.items()}

    def predict(self, n: ArrayLike, d: ArrayLike | None = None, unique: ArrayLike | None = None) -> Array:
        """Predicted losses, columns broadcast; `InputError` outside the fitted N for a law that only interpolates."""
        sizes = np.atleast_1d(np.asarray(n, dtype=np.float64))
        low, high = self.range_n
        outside = bool((sizes < low).any() or (sizes > high).any())
        fix = f"{self.law.name} only interpolates, from {low:g} to {high:g}; choose another law to extrapolate."
        require(self.law.extrapolates or not outside, "n", f"{sizes.max():g}", fix)
        require(d is not None or "d" not in self.law.variables, "d", None, f"{self.law.name} needs the tokens; give d.")
        given = {"n": sizes, "d": d, "u": d if unique is None else unique}
        needed = np.broadcast_arrays(*(np.asarray(given[name], dtype=np.float64) for name in self.law.variables))
        columns = dict(zip(self.law.variables, needed, strict=True))
        return np.asarray(np.exp(log_prediction(self.law, self.theta[None], self.centred(columns))[0]))


def fit_laws(table: Observations, laws: str | Sequence[str] = "all", *, delta: float = DELTA) -> tuple[Fit, ...]:
    """Fit the named laws, or all that the table has columns and points for.

    `delta` is where Huber's loss turns linear, in units of the log of the loss. `InputError` for a law that is unknown or
    that the table cannot determine.
    """
    require(delta > 0, "DELTA", delta, "give a positive number, for example 0.001.")
    if laws == "all":
        return tuple(fit_law(law, table, delta=delta) for law in BY_NAME.values() if not obstacle(law, table))
    return tuple(fit_law(law_named(name), table, delta=delta) for name in ([laws] if isinstance(laws, str) else laws))


def fit_law(law: Law, table: Observations, *, delta: float = DELTA) -> Fit:
    """Fit one law; `InputError` if the table cannot determine it."""
    if reason := obstacle(law, table):
        raise InputError(reason)
    columns = {name: np.log(column) for name, column in table.variables().items() if name in law.variables}
    means = {name: float(column.mean()) for name, column in columns.items()}
    x = {name: column - means[name] for name, column in columns.items()}
    log_loss = np.log(table.loss)
    low, high = bounds(law, log_loss)
    # A wide Huber loss is smooth: it leads past the shallow minima that a narrow one has.
    wide = Problem(law=law, x=x, log_loss=log_loss, low=low, high=high, delta=max(delta, WIDE))
    once = np.ones((1, len(table)))
    near = minimise(wide, starts(law, x, log_loss, STARTS), once, tolerance=1e-6, most=60)
    found = minimise(replace(wide, delta=delta), near.theta, once, tolerance=TOLERANCE, most=1000)
    best = int(found.objective.argmin())
    theta, objective = found.theta[best], float(found.objective[best])
    residuals = log_loss - log_prediction(law, theta[None], x)[0]
    agree = bool((found.objective <= objective * (1 + AGREE) + NO_MISFIT).all())
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
    """Lowest and highest theta, each (P,)."""
    level, K = float(log_loss_I.mean()), len(law.coefficients)
    low = [level - SMALLEST] * K + [shape.low for shape in law.shapes]
    high = [level + LARGEST] * K + [shape.high for shape in law.shapes]
    return np.array(low), np.array(high)


def obstacle(law: Law, table: Observations) -> str:
    """Why this table cannot determine the law, with the fix; empty if it can."""
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
