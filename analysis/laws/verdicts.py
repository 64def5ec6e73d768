"""Does the loss fall with size? A claim, or how small a slope these data could have shown.

The quantity is the slope of log loss over log10 N, told as the change of the loss per tenfold size. Budgets, not rows,
carry the evidence about N: seeds tell how noisy a budget's mean is, and the distance of the means from one line whether
budgets differ in more than their seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtrc, stdtrit

from analysis.laws.forms import Array
from analysis.laws.observations import budgets, observations
from research.errors import require

Claim = Literal["scaling", "inverse", "equivalent", "inconclusive"]
MARGIN = 0.01
"""A change of the loss per tenfold size below which size does not matter."""
POOLED_LEVEL = 0.97
"""A claim from pooled noise: that noise may be pooled is decided on the same data, and a part of the 5% risk pays for it."""
BUDGET_LEVEL = 0.95
EQUIVALENCE_LEVEL = 0.90
"""Two one-sided tests at 5% each (Schuirmann 1987) are an interval of 90%."""
LACK_OF_FIT = 0.01
"""Below this probability the budgets scatter by more than their seeds explain."""
POWER = 0.8
FEWEST = 3
KNOWN = 1e6
"""Degrees of freedom of an error that is given, not estimated."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a table of losses says about size. Slopes are relative changes of the loss per tenfold N."""

    claim: Claim
    """`scaling`: falls; `inverse`: rises; `equivalent`: inside +-margin; `inconclusive`: none of these can be claimed."""
    slope: float
    low: float
    high: float
    """95% interval of the slope."""
    claim_low: float
    claim_high: float
    """The interval that must leave out zero for `scaling` and `inverse`, at `claim_level`."""
    claim_level: float
    equivalence_low: float
    equivalence_high: float
    """90% interval, which must lie inside the margin for `equivalent`."""
    margin: float
    detectable: float
    """Smallest change per tenfold size that a claim would have found four times out of five."""
    freedom: float
    """Degrees of freedom of the slope's error."""
    noise: Literal["seeds and budgets", "budgets"]
    """Where the slope's error is from: pooled, or the scatter of budgets alone."""
    lack_of_fit: float | None
    """Probability that seeds alone scatter the budgets so far from one line; None without repetitions."""
    n_budgets: int
    n_rows: int

    def sentence(self) -> str:
        """The verdict with its numbers."""
        told = {
            "scaling": "the loss falls with size",
            "inverse": "the loss rises with size",
            "equivalent": f"size changes the loss by less than {self.margin:.1%} per tenfold",
            "inconclusive": "no evidence of scaling, and none against it",
        }[self.claim]
        return (
            f"{self.claim}: {told}. {self.slope:+.2%} of the loss per tenfold N, 95% interval [{self.low:+.2%}, "
            f"{self.high:+.2%}], from {self.n_budgets} budgets; a change of {self.detectable:.2%} would have been found "
            f"four times out of five.{self.near_miss}"
        )

    @property
    def near_miss(self) -> str:
        """Why nothing is claimed where the 95% interval leaves out zero; empty elsewhere."""
        if self.claim != "inconclusive" or self.low <= 0 <= self.high:
            return ""
        return (
            f" That interval leaves out zero; a claim needs the {self.claim_level:.0%} one, "
            f"[{self.claim_low:+.2%}, {self.claim_high:+.2%}], to do so."
        )


def verdict(
    n: ArrayLike,
    loss: ArrayLike,
    *,
    budget_error: ArrayLike = 0.0,
    slope_error: float = 0.0,
    margin: float = MARGIN,
) -> Verdict:
    """Judge losses, one row per (budget, seed).

    `budget_error` is a relative standard error that all rows of a budget share and seeds cannot show, for example that of
    the search which found its architecture: one number, or one per budget by size. `slope_error` is an error of the slope
    itself, per tenfold N, for example that of the validation days which all budgets share. `InputError` below 3 budgets.
    """
    table = observations(n=n, loss=loss)
    place = budgets(table.n)
    rows = np.bincount(place)
    require(len(rows) >= FEWEST, "n", f"{len(rows)} budgets", f"no trend can be judged; give at least {FEWEST} sizes.")
    size = np.bincount(place, np.log10(table.n)) / rows
    y = np.log(table.loss)
    mean = np.bincount(place, y) / rows
    seeds_freedom = len(y) - len(rows)
    seeds = float(((y - mean[place]) ** 2).sum())
    shared = _shared(budget_error, len(rows))
    slope, variance, freedom, probability, pooled = _slope(size, mean, rows, seeds, seeds_freedom, shared)
    total = variance + slope_error**2
    # Satterthwaite (1946): a known part of the variance adds degrees of freedom.
    freedom = min(KNOWN, freedom * (total / variance) ** 2) if variance > 0 else KNOWN
    level = POOLED_LEVEL if pooled else BUDGET_LEVEL
    return _judged(
        slope, float(np.sqrt(total)), freedom, level, margin, probability, pooled=pooled, n_budgets=len(rows), n_rows=len(y)
    )


def _shared(budget_error: ArrayLike, count: int) -> Array:
    given = np.asarray(budget_error, dtype=np.float64)
    fix = f"give one relative standard error, or one for each of the {count} budgets, none below zero."
    require(given.shape in ((), (count,)) and bool((given >= 0).all()), "budget_error", budget_error, fix)
    return np.broadcast_to(given, count) ** 2


def _slope(
    size: Array, mean: Array, rows: NDArray[np.int64], seeds: float, seeds_freedom: int, shared: Array
) -> tuple[float, float, float, float | None, bool]:
    """Slope, its variance, degrees of freedom, probability of the lack of fit, and whether the noise was pooled."""
    scatter_freedom = len(rows) - 2
    by_seed = seeds / seeds_freedom if seeds_freedom else 0.0
    known = by_seed / rows + shared
    judged = bool((known > 0).all())
    noise = known if judged else np.ones(len(rows))
    slope, variance, scatter = _line(size, mean, 1 / noise)
    if not judged:
        return slope, variance * scatter / scatter_freedom, scatter_freedom, None, False
    of_seeds = by_seed * float((1 / rows).mean())
    freedom = min(KNOWN, seeds_freedom * (float(known.mean()) / of_seeds) ** 2) if of_seeds else KNOWN
    probability = float(fdtrc(scatter_freedom, freedom, scatter / scatter_freedom))
    if probability < LACK_OF_FIT:
        # What sets budgets apart beyond seeds is in every mean alike, however many seeds it has.
        slope, variance, scatter = _line(size, mean, np.ones(len(rows)))
        return slope, variance * scatter / scatter_freedom, scatter_freedom, probability, False
    pooled = (scatter + freedom) / (scatter_freedom + freedom)
    return slope, variance * pooled, scatter_freedom + freedom, probability, True


def _line(size: Array, mean: Array, weight: Array) -> tuple[float, float, float]:
    """Weighted least squares: the slope, its variance for noise 1 / weight, and the weighted squares left."""
    centred = size - (weight * size).sum() / weight.sum()
    width = float((weight * centred**2).sum())
    slope = float((weight * centred * mean).sum()) / width
    left = mean - slope * centred
    left = left - (weight * left).sum() / weight.sum()
    return slope, 1 / width, float((weight * left**2).sum())


def _judged(
    slope: float,
    error: float,
    freedom: float,
    level: float,
    margin: float,
    probability: float | None,
    *,
    pooled: bool,
    n_budgets: int,
    n_rows: int,
) -> Verdict:
    require(0 < margin < 1, "margin", margin, "give a relative change, for example 0.01.")

    def interval(at: float) -> tuple[float, float]:
        half = float(stdtrit(freedom, (1 + at) / 2)) * error
        return float(np.expm1(slope - half)), float(np.expm1(slope + half))

    low, high = interval(BUDGET_LEVEL)
    claim_low, claim_high = interval(level)
    same_low, same_high = interval(EQUIVALENCE_LEVEL)
    claim: Claim = "inconclusive"
    if -margin < same_low and same_high < margin:
        claim = "equivalent"
    elif claim_low > 0 or claim_high < 0:
        claim = "inverse" if slope > 0 else "scaling"
    least = float(stdtrit(freedom, (1 + level) / 2) + stdtrit(freedom, POWER)) * error
    return Verdict(
        claim=claim,
        slope=float(np.expm1(slope)),
        low=low,
        high=high,
        claim_low=claim_low,
        claim_high=claim_high,
        claim_level=level,
        equivalence_low=same_low,
        equivalence_high=same_high,
        margin=margin,
        detectable=float(np.expm1(least)),
        freedom=float(freedom),
        noise="seeds and budgets" if pooled else "budgets",
        lack_of_fit=probability,
        n_budgets=n_budgets,
        n_rows=n_rows,
    )
