"""Which of many models may be the best: the model confidence set. Numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from research.errors import InputError
from research.evaluation.significance import BLOCK_DAYS, RESAMPLES, SEED

SIZE = 0.05


@dataclass(frozen=True, kw_only=True)
class ConfidenceSetMember:
    """One model's place in the confidence set."""

    name: str
    loss: float
    """Mean over days."""
    p_value: float
    """Smallest size at which the model leaves the set."""

    @property
    def is_in(self) -> bool:
        """Whether the 95% set holds it: it may be the best."""
        return self.p_value > SIZE


def confidence_set(losses: Mapping[str, NDArray[np.float64]]) -> list[ConfidenceSetMember]:
    """Hansen, Lunde & Nason 2011, statistic T_max, circular blocks of 60 days; best first.

    `losses` holds the loss of each day, the same days for every model. The set contains the best of them with a
    probability of 95%, whatever their number; a set that holds all says that these days cannot tell them apart.

    Sixty-day blocks are few: on 877 days the set loses one of five or eight equal models in 7% to 11% of studies instead of
    5%; with the range statistic it is 11% to 19%.
    """
    from arch.bootstrap import MCS

    distinct = _distinct(losses)
    if len(distinct) < 2:
        return [ConfidenceSetMember(name=name, loss=float(each.mean()), p_value=1.0) for name, each in losses.items()]
    table = np.column_stack([losses[name] for name in distinct])
    block = min(BLOCK_DAYS, max(1, len(table) // 4))
    found = MCS(table, size=SIZE, reps=RESAMPLES, block_size=block, method="max", bootstrap="circular", seed=SEED)
    found.compute()
    left = found.pvalues["Pvalue"].to_dict()
    p_values = {name: float(left[place]) for place, name in enumerate(distinct)}
    twin = {name: twin for twin, names in distinct.items() for name in names}
    standings = [
        ConfidenceSetMember(name=name, loss=float(each.mean()), p_value=p_values[twin[name]]) for name, each in losses.items()
    ]
    return sorted(standings, key=lambda one: one.loss)


def _distinct(losses: Mapping[str, NDArray[np.float64]]) -> dict[str, list[str]]:
    """First model of each distinct series -> all that have it: a difference without variance cannot be studentised."""
    if len({len(each) for each in losses.values()}) > 1:
        raise InputError(f"MODELS={', '.join(losses)}: not predicted on the same days; compare models of one question.")
    found: dict[str, list[str]] = {}
    for name, each in losses.items():
        twin = next((first for first in found if np.array_equal(losses[first], each)), name)
        found.setdefault(twin, []).append(name)
    return found
