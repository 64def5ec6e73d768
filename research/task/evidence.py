"""Statistical evidence in a split: counts, base rates and the effective number of independent labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.task.windows import WindowedData

MEMORY_DAYS = 60
"""Sessions after which labels count as independent: as long as the blocks of the platform's bootstrap."""


@dataclass(frozen=True, kw_only=True)
class SplitEvidence:
    """Evidence in one split."""

    split: str
    n: int
    """Labels: days times instruments."""
    positives: int
    days: int
    """Days with a label; instruments share them."""
    rarer_days: int
    """Days on which any instrument has a label of the rarer class."""
    effective: float
    """Number of independent labels that would determine the base rate equally well."""

    @property
    def base_rate(self) -> float:
        """Share of positive labels."""
        return self.positives / self.n if self.n else float("nan")

    @property
    def base_rate_error(self) -> float:
        """Standard error of the base rate."""
        return float(np.sqrt(self.base_rate * (1 - self.base_rate) / max(self.effective, 1.0)))


@dataclass(frozen=True, kw_only=True)
class EvidenceFloor:
    """Smallest evidence that a split may have."""

    days: int = 200
    """Labelled days, for any number of instruments: forty instruments on five days have seen one week."""
    rarer_class: int = 30
    """Days with the rarer class."""


def evidence_of(prepared: WindowedData) -> list[SplitEvidence]:
    """Return the evidence of each split."""
    evidence = []
    for name in ("train", "validation", "test"):
        rows = getattr(prepared.split, name)
        labels, days = prepared.labels[rows], prepared.days[rows]
        positives = int(labels.sum())
        rarer = labels == (2 * positives <= len(labels))
        evidence.append(
            SplitEvidence(
                split=name,
                n=len(labels),
                positives=positives,
                days=days.nunique(),
                rarer_days=days[rarer].nunique(),
                effective=effective_labels(labels, days, prepared.parts[0].target.spec.horizon),
            )
        )
    return evidence


def effective_labels(labels: NDArray[np.int8], days: pd.DatetimeIndex, horizon: int) -> float:
    """Return the number of independent labels whose mean has the same variance: p (1 - p) / variance of the mean.

    The variance is the long-run variance of the daily sums (Newey & West 1987, Bartlett weights over 60 sessions). It
    contains all dependence: overlapping intervals, clustered volatility, and instruments that move together on a day.
    The number is at most one per `horizon` sessions and instrument.
    """
    if len(labels) == 0:
        return 0.0
    limit = len(labels) / horizon
    rate = labels.mean()
    if rate in (0.0, 1.0):
        return limit
    sums = pd.Series(labels - rate).groupby(days.to_numpy(), sort=True).sum().to_numpy(np.float64)
    memory = min(MEMORY_DAYS, len(sums) - 1)
    variance = sums @ sums
    for lag in range(1, memory + 1):
        variance += 2 * (1 - lag / (memory + 1)) * (sums[lag:] @ sums[:-lag])
    return float(min(limit, rate * (1 - rate) * len(labels) ** 2 / variance))


def thin_evidence(evidence: list[SplitEvidence], floor: EvidenceFloor) -> list[str]:
    """Return a sentence for every split below the floor."""
    return [
        f"{split.split} has {split.days} days, {split.rarer_days} with the rarer class "
        f"(floor: {floor.days} and {floor.rarer_class})"
        for split in evidence
        if split.days < floor.days or split.rarer_days < floor.rarer_class
    ]
