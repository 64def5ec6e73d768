"""Rank correlation of configurations between horizons, and the cost of using another horizon's best. Numbers only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, permutations

import numpy as np
import pandas as pd

from analysis.results.frontier import SEARCHED, SHAPE, Frontier, day_losses
from research.evaluation.significance import Difference, paired_difference
from research.tracking.store import Store

FEWEST_SHARED = 5
Z = 1.959964


@dataclass(frozen=True, kw_only=True)
class HorizonTransfer:
    """Transfer of one budget's configurations from the horizon of their choice to another horizon."""

    budget: str
    chosen_at: int
    used_at: int
    matched_by: str
    """`configuration` if enough were tried at both horizons, else `architecture`, averaged over its trials."""
    shared: int
    """Number of configurations or architectures that were tried at both horizons."""
    correlation: float
    """Spearman's rank correlation over the shared ones."""
    low: float
    high: float
    regret: Difference
    """Daily loss at the second horizon of the first horizon's best, minus that of the second's own best.

    The second's own best was chosen on these validation days, which makes the regret look larger than it is.
    """


def transfers(store: Store, frontiers: Sequence[Frontier]) -> list[HorizonTransfer]:
    """Return a transfer for each budget and ordered pair of horizons with five or more configurations in common.

    Architectures are compared if fewer configurations are shared.
    """
    results = []
    for first, second in _pairs(frontiers):
        for entry in first.entries:
            chosen, used = (frontier.trials[frontier.trials["budget"] == entry.budget] for frontier in (first, second))
            for matched_by, keys in (("configuration", SEARCHED), ("architecture", SHAPE)):
                shared = _shared(chosen, used, keys, (first.base_rate_loss, second.base_rate_loss))
                if len(shared) >= FEWEST_SHARED:
                    results.append(_transfer(store, entry.budget, (first.horizon, second.horizon), matched_by, shared))
                    break
    return results


def _pairs(frontiers: Sequence[Frontier]) -> Iterator[tuple[Frontier, Frontier]]:
    """Yield the ordered pairs of questions that differ in the horizon only."""
    ordered = sorted(frontiers, key=lambda frontier: (frontier.question, frontier.horizon))
    for _, group in groupby(ordered, key=lambda frontier: frontier.question):
        for first, second in permutations(group, 2):
            if first.horizon != second.horizon:
                yield first, second


def _shared(first: pd.DataFrame, second: pd.DataFrame, keys: Sequence[str], ceilings: tuple[float, float]) -> pd.DataFrame:
    """Return one row per key tried at both: mean loss and run id of the best trial, suffixed _chosen and _used."""
    parts = []
    for trials, ceiling in zip((first, second), ceilings, strict=True):
        ordered = trials.assign(loss=trials["val_loss"].clip(upper=ceiling)).sort_values("val_loss", kind="stable")
        parts.append(ordered.groupby(list(keys)).agg(loss=("loss", "mean"), run_id=("run_id", "first")))
    return parts[0].join(parts[1], how="inner", lsuffix="_chosen", rsuffix="_used")


def _transfer(store: Store, budget: str, horizons: tuple[int, int], matched_by: str, shared: pd.DataFrame) -> HorizonTransfer:
    correlation = float(shared["loss_chosen"].corr(shared["loss_used"], method="spearman"))
    low, high = spearman_interval(correlation, len(shared))
    chosen, own = (str(shared["run_id_used"].iloc[int(shared[name].argmin())]) for name in ("loss_chosen", "loss_used"))
    return HorizonTransfer(
        budget=budget,
        chosen_at=horizons[0],
        used_at=horizons[1],
        matched_by=matched_by,
        shared=len(shared),
        correlation=correlation,
        low=low,
        high=high,
        regret=paired_difference(day_losses(store, chosen), day_losses(store, own)),
    )


def spearman_interval(correlation: float, n: int) -> tuple[float, float]:
    """Return the 95% interval of a rank correlation over n pairs.

    Fisher's z with the standard error of Bonett & Wright 2000.
    """
    error = ((1 + correlation**2 / 2) / (n - 3)) ** 0.5
    centre = np.arctanh(np.clip(correlation, -1 + 1e-9, 1 - 1e-9))
    return float(np.tanh(centre - Z * error)), float(np.tanh(centre + Z * error))
