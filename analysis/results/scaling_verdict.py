"""Does the loss fall with size, on the evidence of one frontier and all the noise that its runs can tell of? Numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.laws.verdicts import FEWEST, Verdict, verdict
from analysis.results.frontier import BudgetResult, Frontier
from analysis.results.uncertainty import LossUncertainty, loss_uncertainties
from research.evaluation.significance import standard_error

Basis = Literal["fresh seeds", "best trials"]
FEWEST_SEEDS = 2


@dataclass(frozen=True, kw_only=True)
class ScalingVerdict:
    """A verdict and what it rests on."""

    verdict: Verdict
    basis: Basis
    """The winners on seeds that they were not chosen on, or, where too few budgets have them, the best trials as chosen."""
    search: bool
    """Whether the noise of the search is in the interval; it takes two random trials at every budget."""
    left_out: tuple[str, ...]
    """Budgets whose winner has no fresh seeds, while enough others have: losses of the two kinds must not be mixed."""
    sizes: NDArray[np.float64]
    """Counted parameters of every loss that was judged, [I]."""
    losses: NDArray[np.float64]
    """[I]."""

    @property
    def noise(self) -> str:
        """What its interval holds, in words; `budgets` is how they scatter around one line."""
        names = ["seeds" if self.basis == "fresh seeds" else "budgets", *(["search"] if self.search else [])]
        return f"the noise of {', '.join(names)} and days"

    @property
    def cautions(self) -> list[str]:
        """What the verdict does not hold, and how to get it."""
        told = []
        if self.basis == "best trials":
            told.append(
                "The losses are those of trials chosen for them; the noise of seeds shows only as the scatter of budgets. "
                "REPLICATES=3 on each sweep gives fresh seeds."
            )
        if self.left_out:
            told.append(f"Without {', '.join(self.left_out)}, whose best trial has no fresh seeds; REPLICATES=3 gives some.")
        if not self.search:
            told.append("A budget has no two random trials: the noise of the search shows only as the scatter of budgets.")
        return told


def scaling_verdict_of(frontier: Frontier) -> ScalingVerdict | None:
    """The verdict of a question, with seed, search and day noise as far as they are known; None below three budgets."""
    pairs = list(zip(frontier.entries, loss_uncertainties(frontier), strict=True))
    fresh = [(entry, one) for entry, one in pairs if one.fresh_seeds >= FEWEST_SEEDS]
    basis: Basis = "fresh seeds" if len(fresh) >= FEWEST else "best trials"
    used = fresh if basis == "fresh seeds" else pairs
    if len(used) < FEWEST:
        return None
    entries = [entry for entry, _ in used]
    found = [entry.replicates[entry.config] if basis == "fresh seeds" else (entry.val_loss,) for entry in entries]
    sizes, losses = np.repeat([float(entry.n_params) for entry in entries], [len(one) for one in found]), np.concatenate(found)
    search = all(np.isfinite(one.search) for _, one in used)
    return ScalingVerdict(
        verdict=verdict(
            sizes,
            losses,
            budget_error=[one.search / one.expected_best for _, one in used] if search else 0.0,
            slope_error=_day_error(entries),
        ),
        basis=basis,
        search=search,
        sizes=sizes,
        losses=losses,
        left_out=tuple(entry.budget for entry, one in pairs if basis == "fresh seeds" and one.fresh_seeds < FEWEST_SEEDS),
    )


def frontier_points(frontier: Frontier) -> tuple[list[float], list[float], list[float] | None]:
    """Sizes, lowest losses and their standard errors, from which the next budget is foretold; no errors if one is unknown."""
    errors = point_errors(loss_uncertainties(frontier))
    sizes = [float(entry.n_params) for entry in frontier.entries]
    return sizes, [entry.val_loss for entry in frontier.entries], errors if all(errors) else None


def point_errors(found: list[LossUncertainty]) -> list[float]:
    """Standard error of each budget's lowest loss from search and seed, in nats; 0 where nothing is known of them."""
    return [float(np.sqrt(np.nansum([one.search**2, one.seed**2]))) for one in found]


def daily_slope(entries: list[BudgetResult]) -> NDArray[np.float64]:
    """Least-squares slope over log10 of the counted sizes, day by day, in nats per tenfold size.

    Its mean is the slope of the mean losses: both are the same weighted sum. Day by day it can be resampled in blocks.
    """
    size = np.log10([entry.n_params for entry in entries])
    centred = size - size.mean()
    weights = centred / (centred**2).sum()
    return np.asarray(np.column_stack([entry.day_losses for entry in entries]) @ weights, dtype=np.float64)


def _day_error(entries: list[BudgetResult]) -> float:
    """Relative standard error of the slope per tenfold size from the days that all budgets were validated on."""
    return standard_error(daily_slope(entries)) / float(np.mean([entry.val_loss for entry in entries]))
