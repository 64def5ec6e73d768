"""The scaling verdict of one frontier, with the seed, search and day noise of its runs. Numbers only."""

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
    """A verdict on one frontier and the losses behind it."""

    verdict: Verdict
    basis: Basis
    """Source of the losses: fresh seeds of the best configurations, or, if too few budgets have them, the best trials."""
    search: bool
    """Whether the interval includes the noise of the search, which needs two random trials at every budget."""
    left_out: tuple[str, ...]
    """Budgets without fresh seeds, while enough others have them: the two kinds of losses must not be mixed."""
    sizes: NDArray[np.float64]
    """Parameter count of every loss, (I,)."""
    losses: NDArray[np.float64]
    """Losses behind the verdict in nats, (I,)."""

    @property
    def noise(self) -> str:
        """Sources of noise in the interval; `budgets` is the scatter of budgets around one line."""
        names = ["seeds" if self.basis == "fresh seeds" else "budgets", *(["search"] if self.search else [])]
        return f"the noise of {', '.join(names)} and days"

    @property
    def cautions(self) -> list[str]:
        """Limits of the verdict, each with its remedy."""
        cautions = []
        if self.basis == "best trials":
            cautions.append(
                "The losses are those of trials chosen for their loss; the noise of seeds shows only as the scatter of "
                "budgets. REPLICATES=3 on each sweep gives fresh seeds."
            )
        if self.left_out:
            cautions.append(
                f"Without {', '.join(self.left_out)}, whose best trial has no fresh seeds; REPLICATES=3 gives some."
            )
        if not self.search:
            cautions.append("A budget has no two random trials: the noise of the search shows only as the scatter of budgets.")
        return cautions


def scaling_verdict_of(frontier: Frontier) -> ScalingVerdict | None:
    """Return the verdict of a question, with the known parts of seed, search and day noise; None below three budgets."""
    pairs = list(zip(frontier.entries, loss_uncertainties(frontier), strict=True))
    fresh = [(entry, uncertainty) for entry, uncertainty in pairs if uncertainty.fresh_seeds >= FEWEST_SEEDS]
    basis: Basis = "fresh seeds" if len(fresh) >= FEWEST else "best trials"
    used = fresh if basis == "fresh seeds" else pairs
    if len(used) < FEWEST:
        return None
    entries = [entry for entry, _ in used]
    by_budget = [entry.replicates[entry.config] if basis == "fresh seeds" else (entry.val_loss,) for entry in entries]
    sizes = np.repeat([float(entry.n_params) for entry in entries], [len(losses) for losses in by_budget])
    losses = np.concatenate(by_budget)
    search = all(np.isfinite(uncertainty.search) for _, uncertainty in used)
    # Relative error of the slope from the days, which all budgets share.
    slope_error = standard_error(daily_slope(entries)) / float(np.mean([entry.val_loss for entry in entries]))
    return ScalingVerdict(
        verdict=verdict(
            sizes,
            losses,
            budget_error=[loss.search / loss.expected_best for _, loss in used] if search else 0.0,
            slope_error=slope_error,
        ),
        basis=basis,
        search=search,
        sizes=sizes,
        losses=losses,
        left_out=tuple(entry.budget for entry, loss in pairs if basis == "fresh seeds" and loss.fresh_seeds < FEWEST_SEEDS),
    )


def frontier_points(frontier: Frontier) -> tuple[list[float], list[float], list[float] | None]:
    """Return the points of a forecast: sizes, lowest losses and their standard errors; no errors if one is unknown."""
    errors = point_errors(loss_uncertainties(frontier))
    sizes = [float(entry.n_params) for entry in frontier.entries]
    return sizes, [entry.val_loss for entry in frontier.entries], errors if all(errors) else None


def point_errors(uncertainties: list[LossUncertainty]) -> list[float]:
    """Return the standard error of each budget's lowest loss from search and seed, in nats; 0 if both are unknown."""
    return [float(np.sqrt(np.nansum([loss.search**2, loss.seed**2]))) for loss in uncertainties]


def daily_slope(entries: list[BudgetResult]) -> NDArray[np.float64]:
    """Return the least-squares slope over log10 of the parameter count for each day, in nats per tenfold size, (days,).

    Its mean is the slope of the mean losses, since both are the same weighted sum. A slope per day can be resampled in
    blocks.
    """
    log_size = np.log10([entry.n_params for entry in entries])
    centred = log_size - log_size.mean()
    weights = centred / (centred**2).sum()
    return np.asarray(np.column_stack([entry.day_losses for entry in entries]) @ weights, dtype=np.float64)
