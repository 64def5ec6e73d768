"""Which law predicts budgets that it has not seen: fitted to the smaller ones, held against the next."""

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
"""Budgets that the first window is fitted to."""
MOST_WINDOWS = 5
"""The largest budgets are held out: nearest to what is extrapolated to."""
NULL = "constant"
CLEARLY = 0.2
"""A law that predicts less than a fifth better than the constant is no better: so much chance does among many laws."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """One budget held out, the smaller ones fitted."""

    fitted_to: float
    """Largest N that was fitted."""
    held_out: float
    """Largest N of the budget that was predicted."""
    rows: int
    """Losses that were predicted."""
    signed_error: dict[str, float]
    """Law -> mean of observed over predicted loss, minus 1: below zero where the law was too high."""
    absolute_error: dict[str, float]
    """Law -> mean distance of the log of the loss."""
    coverage: float
    """Share of the losses inside the 95% interval over admissible forms."""
    coverage_of_parameters: float
    """Share inside the interval of one law's parameters alone."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """All windows, and the law that they speak for."""

    windows: tuple[Window, ...]
    scores: dict[str, float]
    """Law -> mean absolute error over the windows that all of these laws could be fitted in."""
    chosen: str
    """The smallest law whose score is within one standard error of the best (Breiman et al. 1984, section 3.4.3), and the
    constant unless the best is clearly better."""
    coverage: float
    """Over all held-out rows."""
    coverage_of_parameters: float


def validate(
    table: Observations,
    laws: str | Sequence[str] = "all",
    *,
    largest_only: bool = False,
    delta: float = DELTA,
    resamples: int = 400,
) -> Validation:
    """Expanding window over budgets, or its last step alone: leave the largest out. The constant law is always a candidate.

    `InputError` below 4 budgets: three to fit, one to hold out.
    """
    names = [name for name in BY_NAME if laws == "all" or name in [NULL, *([laws] if isinstance(laws, str) else laws)]]
    names = [name for name in names if law_named(name).extrapolates]
    place = budgets(table.n)
    last = int(place.max())
    fix = f"no budget can be held out; give at least {FEWEST + 1} sizes."
    require(last >= FEWEST, "n", f"{last + 1} budgets", fix)
    held = [last] if largest_only else range(max(FEWEST, last + 1 - MOST_WINDOWS), last + 1)
    windows = tuple(_window(table.rows(place < index), table.rows(place == index), names, delta, resamples) for index in held)
    errors = _comparable(windows)
    rows = np.array([window.rows for window in windows])
    return Validation(
        windows=windows,
        scores={name: float(error.mean()) for name, error in errors.items()},
        chosen=_smallest_of_the_best(errors),
        coverage=float(np.average([window.coverage for window in windows], weights=rows)),
        coverage_of_parameters=float(np.average([window.coverage_of_parameters for window in windows], weights=rows)),
    )


def _window(seen: Observations, held: Observations, names: Sequence[str], delta: float, resamples: int) -> Window:
    fits = [fit_law(BY_NAME[name], seen, delta=delta) for name in names if not obstacle(BY_NAME[name], seen)]
    errors = {fit.law.name: np.log(held.loss / fit.predict(held.n, held.d, held.u)) for fit in fits}
    # Which law is best is not known yet: the interval is over all that describe what was seen.
    best = min(admissible(fits, seen), key=lambda fit: fit.objective)
    told = predict([best, *(fit for fit in fits if fit is not best)], seen, held, resamples=resamples)
    return Window(
        fitted_to=float(seen.n.max()),
        held_out=float(held.n.max()),
        rows=len(held),
        signed_error={name: float(np.expm1(error).mean()) for name, error in errors.items()},
        absolute_error={name: float(np.abs(error).mean()) for name, error in errors.items()},
        coverage=float(((told.low <= held.loss) & (held.loss <= told.high)).mean()),
        coverage_of_parameters=float(((told.parameters_low <= held.loss) & (held.loss <= told.parameters_high)).mean()),
    )


def _comparable(windows: Sequence[Window]) -> dict[str, Array]:
    """Law -> absolute errors on the same windows: laws that the last two could fit, windows that could fit all of them."""
    names = [name for name in windows[-1].absolute_error if name in windows[-2:][0].absolute_error]
    common = [window for window in windows if set(names) <= set(window.absolute_error)]
    return {name: np.array([window.absolute_error[name] for window in common]) for name in names}


def _smallest_of_the_best(errors: dict[str, Array]) -> str:
    best = min(errors, key=lambda name: float(errors[name].mean()))
    if errors[best].mean() > (1 - CLEARLY) * errors[NULL].mean():
        return NULL
    near = []
    for name, error in errors.items():
        lost = error - errors[best]
        doubt = lost.std(ddof=1) / np.sqrt(len(lost)) if len(lost) > 1 else 0.0
        if lost.mean() <= doubt:
            near.append(name)
    return min(near, key=lambda name: (BY_NAME[name].n_parameters, float(errors[name].mean())))
