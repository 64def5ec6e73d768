"""The verdict on size: a claim about the slope of the loss, or the smallest slope that the data could have shown.

The quantity is the slope of log loss over log10 N, given as the change of the loss per tenfold size. Budgets, not rows,
carry the evidence about N. Seeds give the noise of a budget's mean; the distance of the means from one line shows whether
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
"""Change of the loss per tenfold size below which size does not matter."""
POOLED_LEVEL = 0.97
"""Confidence level of a claim from pooled noise: the same data decide on pooling, which uses a part of the 5% risk."""
BUDGET_LEVEL = 0.95
EQUIVALENCE_LEVEL = 0.90
"""Confidence level of two one-sided tests at 5% each (Schuirmann 1987)."""
LACK_OF_FIT = 0.01
"""P-value of the lack-of-fit test below which budgets scatter by more than their seeds explain."""
POWER = 0.8
FEWEST = 3
KNOWN = 1e6
"""Degrees of freedom of an error that is given instead of estimated."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict of a table of losses on size. Slopes are relative changes of the loss per tenfold N."""

    claim: Claim
    """`scaling`: falls; `inverse`: rises; `equivalent`: inside +-margin; `inconclusive`: none of these can be claimed."""
    slope: float
    low: float
    high: float
    """Bounds of the 95% interval of the slope."""
    claim_low: float
    claim_high: float
    """Bounds of the interval at `claim_level`, which must exclude zero for `scaling` and `inverse`."""
    claim_level: float
    equivalence_low: float
    equivalence_high: float
    """Bounds of the 90% interval, which must lie inside the margin for `equivalent`."""
    margin: float
    detectable: float
    """Smallest change per tenfold size that would have led to a claim four times out of five."""
    freedom: float
    """Degrees of freedom of the slope's error."""
    noise: Literal["seeds and budgets", "budgets"]
    """Source of the slope's error: pooled, or the scatter of budgets alone."""
    n_budgets: int
    n_rows: int

    def sentence(self) -> str:
        """Return the verdict with its numbers."""
        meaning = {
            "scaling": "the loss falls with size",
            "inverse": "the loss rises with size",
            "equivalent": f"size changes the loss by less than {self.margin:.1%} per tenfold",
            "inconclusive": "no evidence of scaling, and none against it",
        }[self.claim]
        return (
            f"{self.claim}: {meaning}. {self.slope:+.2%} of the loss per tenfold N, 95% interval [{self.low:+.2%}, "
            f"{self.high:+.2%}], from {self.n_budgets} budgets; a change of {self.detectable:.2%} would have been found "
            f"four times out of five.{self.near_miss}"
        )

    @property
    def near_miss(self) -> str:
        """Explanation of an `inconclusive` whose 95% interval excludes zero; empty for other verdicts."""
        if self.claim != "inconclusive" or self.low <= 0 <= self.high:
            return ""
        return (
            f" That interval excludes zero; a claim needs the {self.claim_level:.0%} interval, "
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
    """Return the verdict on losses, one row per (budget, seed).

    `budget_error` is a relative standard error that all rows of a budget share and that seeds cannot show, for example
    that of the search for its architecture: one number, or one per budget by size. `slope_error` is an error of the slope
    itself, per tenfold N, for example that of the validation days, which all budgets share. `InputError` below 3 budgets.
    """
    table = observations(n=n, loss=loss)
    budget = budgets(table.n)
    rows = np.bincount(budget)
    require(len(rows) >= FEWEST, "n", f"{len(rows)} budgets", f"no trend can be judged; give at least {FEWEST} sizes.")
    size = np.bincount(budget, np.log10(table.n)) / rows
    log_loss = np.log(table.loss)
    mean = np.bincount(budget, log_loss) / rows
    seed_squares = float(((log_loss - mean[budget]) ** 2).sum())
    shared = np.asarray(budget_error, dtype=np.float64)
    fix = f"give one relative standard error, or one for each of the {len(rows)} budgets, none below zero."
    require(shared.shape in ((), (len(rows),)) and bool((shared >= 0).all()), "budget_error", budget_error, fix)
    shared_variance = np.broadcast_to(shared, len(rows)) ** 2
    slope, variance, freedom, pooled = _slope(size, mean, rows, seed_squares, shared_variance)
    total = variance + slope_error**2
    # Satterthwaite (1946): a known part of the variance adds degrees of freedom.
    freedom = min(KNOWN, freedom * (total / variance) ** 2) if variance > 0 else KNOWN
    return _verdict(slope, float(np.sqrt(total)), freedom, margin, pooled=pooled, n_budgets=len(rows), n_rows=len(log_loss))


def _slope(
    size: Array, mean: Array, rows: NDArray[np.int64], seed_squares: float, shared_variance: Array
) -> tuple[float, float, float, bool]:
    """Return the slope, its variance, degrees of freedom, and whether the noise of seeds and budgets was pooled."""
    scatter_freedom = len(rows) - 2
    seed_freedom = int(rows.sum()) - len(rows)
    seed_variance = seed_squares / seed_freedom if seed_freedom else 0.0
    known_variance = seed_variance / rows + shared_variance
    is_known = bool((known_variance > 0).all())
    slope, variance, scatter = _line(size, mean, 1 / (known_variance if is_known else np.ones(len(rows))))
    if not is_known:
        return slope, variance * scatter / scatter_freedom, scatter_freedom, False
    mean_variance = seed_variance * float((1 / rows).mean())
    freedom = min(KNOWN, seed_freedom * (float(known_variance.mean()) / mean_variance) ** 2) if mean_variance else KNOWN
    if float(fdtrc(scatter_freedom, freedom, scatter / scatter_freedom)) < LACK_OF_FIT:
        # Differences between budgets beyond seeds are equal in every mean, whatever its number of seeds.
        slope, variance, scatter = _line(size, mean, np.ones(len(rows)))
        return slope, variance * scatter / scatter_freedom, scatter_freedom, False
    pooled = (scatter + freedom) / (scatter_freedom + freedom)
    return slope, variance * pooled, scatter_freedom + freedom, True


def _line(size: Array, mean: Array, weight: Array) -> tuple[float, float, float]:
    """Return the weighted least-squares slope, its variance for noise 1 / weight, and the weighted residual squares."""
    centred = size - (weight * size).sum() / weight.sum()
    width = float((weight * centred**2).sum())
    slope = float((weight * centred * mean).sum()) / width
    residual = mean - slope * centred
    residual = residual - (weight * residual).sum() / weight.sum()
    return slope, 1 / width, float((weight * residual**2).sum())


def _verdict(
    slope: float, error: float, freedom: float, margin: float, *, pooled: bool, n_budgets: int, n_rows: int
) -> Verdict:
    """Return the verdict from the slope of the log loss and its standard error."""
    require(0 < margin < 1, "margin", margin, "give a relative change, for example 0.01.")

    def interval(at: float) -> tuple[float, float]:
        half = float(stdtrit(freedom, (1 + at) / 2)) * error
        return float(np.expm1(slope - half)), float(np.expm1(slope + half))

    level = POOLED_LEVEL if pooled else BUDGET_LEVEL
    low, high = interval(BUDGET_LEVEL)
    claim_low, claim_high = interval(level)
    equivalence_low, equivalence_high = interval(EQUIVALENCE_LEVEL)
    claim: Claim = "inconclusive"
    if -margin < equivalence_low and equivalence_high < margin:
        claim = "equivalent"
    elif claim_low > 0 or claim_high < 0:
        claim = "inverse" if slope > 0 else "scaling"
    detectable = float(stdtrit(freedom, (1 + level) / 2) + stdtrit(freedom, POWER)) * error
    return Verdict(
        claim=claim,
        slope=float(np.expm1(slope)),
        low=low,
        high=high,
        claim_low=claim_low,
        claim_high=claim_high,
        claim_level=level,
        equivalence_low=equivalence_low,
        equivalence_high=equivalence_high,
        margin=margin,
        detectable=float(np.expm1(detectable)),
        freedom=float(freedom),
        noise="seeds and budgets" if pooled else "budgets",
        n_budgets=n_budgets,
        n_rows=n_rows,
    )
