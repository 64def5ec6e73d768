"""Do configurations keep their rank at another horizon, and what does it cost to use the other horizon's best? Numbers only."""

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
    """One budget, from the horizon that a configuration was chosen at to another one where it is used."""

    budget: str
    chosen_at: int
    used_at: int
    matched_by: str
    """`configuration` where enough of them were tried at both, else `architecture`, its trials averaged."""
    shared: int
    """Configurations or architectures that were tried at both."""
    correlation: float
    """Spearman's, over those."""
    low: float
    high: float
    regret: Difference
    """Daily loss, at the second horizon, of the first one's best less that of its own best; over validation days.

    Its own best was chosen on those days, which makes the regret look larger than it is.
    """


def transfers(store: Store, frontiers: Sequence[Frontier]) -> list[HorizonTransfer]:
    """Every budget and ordered pair of horizons with five or more configurations or architectures in common."""
    found = []
    for first, second in _pairs(frontiers):
        for entry in first.entries:
            mine, theirs = (one.trials[one.trials["budget"] == entry.budget] for one in (first, second))
            for matched_by, keys in (("configuration", SEARCHED), ("architecture", SHAPE)):
                shared = _shared(mine, theirs, keys, (first.base_rate_loss, second.base_rate_loss))
                if len(shared) >= FEWEST_SHARED:
                    found.append(_transfer(store, entry.budget, (first.horizon, second.horizon), matched_by, shared))
                    break
    return found


def _pairs(frontiers: Sequence[Frontier]) -> Iterator[tuple[Frontier, Frontier]]:
    """Questions that differ in their horizon only."""
    ordered = sorted(frontiers, key=lambda one: (one.question, one.horizon))
    for _, group in groupby(ordered, key=lambda one: one.question):
        for first, second in permutations(group, 2):
            if first.horizon != second.horizon:
                yield first, second


def _shared(first: pd.DataFrame, second: pd.DataFrame, keys: Sequence[str], ceilings: tuple[float, float]) -> pd.DataFrame:
    """One row per key tried at both: mean loss and run id of the best trial, suffixed _chosen and _used."""
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
    """95% interval of a rank correlation over n pairs by Fisher's z with the error of Bonett & Wright 2000."""
    error = ((1 + correlation**2 / 2) / (n - 3)) ** 0.5
    centre = np.arctanh(np.clip(correlation, -1 + 1e-9, 1 - 1e-9))
    return float(np.tanh(centre - Z * error)), float(np.tanh(centre + Z * error))
