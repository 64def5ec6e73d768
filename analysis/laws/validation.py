"""Validation of laws on held-out budgets: fitted to the smaller budgets, compared with the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.laws.catalogue import BY_NAME, law_named
from analysis.laws.fit import DELTA, fit_law, obstacle
from analysis.laws.forms import Array
from analysis.laws.observations import Observations, budgets
from analysis.laws.prediction import admissible, predict
from research.errors import require

FEWEST = 3
"""Number of budgets in the fit of the first window."""
MAX_WINDOWS = 5
"""Limit on the windows; the largest budgets are held out, as they are closest to an extrapolation."""
NULL = "constant"
CLEARLY = 0.2
"""Smallest relative improvement over the constant law: among many laws, chance alone gives less than a fifth."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Errors on one held-out budget, with laws fitted to the smaller ones."""

    fitted_to: float
    """Largest fitted N."""
    held_out: float
    """Largest N of the held-out budget."""
    rows: int
    """Number of held-out losses."""
    signed_error: dict[str, float]
    """Law -> mean of observed over predicted loss, minus 1; below zero if the law predicted too much."""
    absolute_error: dict[str, float]
    """Law -> mean absolute error of the log loss."""
    coverage: float
    """Share of the losses inside the 95% interval over admissible forms."""
    coverage_of_parameters: float
    """Share of the losses inside the interval of one law's parameters alone."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Errors over all windows, and the law chosen by them."""

    windows: tuple[Window, ...]
    scores: dict[str, float]
    """Law -> mean absolute error over the windows in which all of these laws could be fitted."""
    chosen: str
    """Smallest law whose score is within one standard error of the best (Breiman et al. 1984, section 3.4.3); the constant
    law unless the best is clearly better."""
    coverage: float
    """Coverage over all held-out rows."""
    coverage_of_parameters: float


def validate(
    table: Observations,
    laws: str | Sequence[str] = "all",
    *,
    largest_only: bool = False,
    delta: float = DELTA,
    resamples: int = 400,
) -> Validation:
    """Validate laws on an expanding window over budgets, or with `largest_only` on the largest budget alone.

    The constant law is always a candidate. `InputError` below 4 budgets: three to fit, one to hold out.
    """
    names = [name for name in BY_NAME if laws == "all" or name in [NULL, *([laws] if isinstance(laws, str) else laws)]]
    names = [name for name in names if law_named(name).extrapolates]
    budget = budgets(table.n)
    last = int(budget.max())
    fix = f"no budget can be held out; give at least {FEWEST + 1} sizes."
    require(last >= FEWEST, "n", f"{last + 1} budgets", fix)
    held_out = [last] if largest_only else range(max(FEWEST, last + 1 - MAX_WINDOWS), last + 1)
    windows = tuple(
        _window(table.rows(budget < index), table.rows(budget == index), names, delta, resamples) for index in held_out
    )
    errors = _comparable(windows)
    rows = np.array([window.rows for window in windows])
    return Validation(
        windows=windows,
        scores={name: float(error.mean()) for name, error in errors.items()},
        chosen=_smallest_of_the_best(errors),
        coverage=float(np.average([window.coverage for window in windows], weights=rows)),
        coverage_of_parameters=float(np.average([window.coverage_of_parameters for window in windows], weights=rows)),
    )


def _window(train: Observations, test: Observations, names: Sequence[str], delta: float, resamples: int) -> Window:
    fits = [fit_law(BY_NAME[name], train, delta=delta) for name in names if not obstacle(BY_NAME[name], train)]
    errors = {fit.law.name: np.log(test.loss / fit.predict(test.n, test.d, test.u)) for fit in fits}
    # The best law is not known yet, so the interval is over all laws that describe the fitted rows.
    best = min(admissible(fits, train), key=lambda fit: fit.objective)
    predicted = predict([best, *(fit for fit in fits if fit is not best)], train, test, resamples=resamples)
    inside = (predicted.low <= test.loss) & (test.loss <= predicted.high)
    inside_parameters = (predicted.parameters_low <= test.loss) & (test.loss <= predicted.parameters_high)
    return Window(
        fitted_to=float(train.n.max()),
        held_out=float(test.n.max()),
        rows=len(test),
        signed_error={name: float(np.expm1(error).mean()) for name, error in errors.items()},
        absolute_error={name: float(np.abs(error).mean()) for name, error in errors.items()},
        coverage=float(inside.mean()),
        coverage_of_parameters=float(inside_parameters.mean()),
    )


def _comparable(windows: Sequence[Window]) -> dict[str, Array]:
    """Return law -> absolute errors on common windows.

    Laws are those that both of the last two windows could fit; windows are those that could fit all of these.
    """
    names = [name for name in windows[-1].absolute_error if name in windows[-2:][0].absolute_error]
    common = [window for window in windows if set(names) <= set(window.absolute_error)]
    return {name: np.array([window.absolute_error[name] for window in common]) for name in names}


def _smallest_of_the_best(errors: dict[str, Array]) -> str:
    """Return the law chosen by the one-standard-error rule, with the constant as null hypothesis."""
    best = min(errors, key=lambda name: float(errors[name].mean()))
    if errors[best].mean() > (1 - CLEARLY) * errors[NULL].mean():
        return NULL
    close = []
    for name, error in errors.items():
        excess = error - errors[best]
        standard_error = excess.std(ddof=1) / np.sqrt(len(excess)) if len(excess) > 1 else 0.0
        if excess.mean() <= standard_error:
            close.append(name)
    return min(close, key=lambda name: (BY_NAME[name].n_parameters, float(errors[name].mean())))
