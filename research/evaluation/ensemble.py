"""Logits of several seeds as one output: mean probability, calibrated, with an interval for a further seed.

Shapes: S seeds, R rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from research.evaluation.calibration import UNCALIBRATED, Calibration, as_json, from_json
from research.evaluation.metrics import Array, logits_of

LEVEL = 0.9


@dataclass(frozen=True, kw_only=True)
class SeedInterval:
    """Interval around an ensemble's logit for the noise of training; it holds none of the uncertainty of the future.

    Its width is constant, so that an answer does not depend on the other rows of a request.
    """

    half_width: float
    """Half width on the logit scale, before calibration."""
    seeds: int
    """Seeds of the ensemble."""
    level: float
    """Share of a further seed's answers inside the interval."""

    def bounds(self, logits: Array) -> tuple[Array, Array]:
        """Return lower and upper logit; a monotonic calibration may be applied to both."""
        return logits - self.half_width, logits + self.half_width

    def coverage(self, logits_SR: Array) -> float:
        """Return the share of answers inside the interval around the other seeds, which is wider as they are one fewer."""
        wider = _spread_of_difference(self.seeds - 1) / _spread_of_difference(self.seeds)
        return float((_left_out(logits_SR) <= self.half_width * wider).mean())


@dataclass(frozen=True, kw_only=True)
class EnsembleOutput:
    """Output of a model from the logits of its seeds, the same in evaluation and serving."""

    calibration: Calibration = UNCALIBRATED
    interval: SeedInterval | None = None
    """Interval of an ensemble; None for a single seed, which has no spread."""

    def __call__(self, logits_SR: Array) -> dict[str, Array]:
        """Return the column `probability`, [R], and those of an ensemble's interval, `low` and `high`."""
        mean = ensemble(logits_SR)
        logits = {"probability": mean}
        if self.interval is not None:
            # A monotonic map keeps the order: an answer inside the interval stays inside.
            logits["low"], logits["high"] = self.interval.bounds(mean)
        return {name: expit(self.calibration(values)) for name, values in logits.items()}

    def files(self) -> dict[str, dict[str, Any]]:
        """Return the JSON content of a model's files by name; empty without calibration and interval."""
        files = {} if self.calibration == UNCALIBRATED else {"calibration": as_json(self.calibration)}
        return files if self.interval is None else {**files, "seed_interval": asdict(self.interval)}


def load_ensemble_output(files: Mapping[str, Any]) -> EnsembleOutput:
    """Return the output that `files` describe."""
    calibration, interval = files.get("calibration"), files.get("seed_interval")
    return EnsembleOutput(
        calibration=from_json(calibration) if calibration else UNCALIBRATED,
        interval=SeedInterval(**interval) if interval else None,
    )


def seed_interval(logits_SR: Array, level: float = LEVEL) -> SeedInterval:
    """Return the interval that would have held each left-out seed on a share `level` of these rows.

    Pooled over seeds and rows: seeds disagree differently from day to day, so that two seeds are enough to estimate it.
    Student's t with seeds - 1 degrees of freedom would fit seeds that differ by a constant on every day.
    """
    seeds = len(logits_SR)
    assert seeds > 1
    narrower = _spread_of_difference(seeds) / _spread_of_difference(seeds - 1)
    return SeedInterval(half_width=float(np.quantile(_left_out(logits_SR), level)) * narrower, seeds=seeds, level=level)


def ensemble(logits_SR: Array) -> Array:
    """Return the logit of the mean probability over seeds, [R]."""
    return logits_of(expit(logits_SR).mean(axis=0))


def _left_out(logits_SR: Array) -> Array:
    """Return the distance of each seed's logit from the ensemble of the others, [S, R]."""
    others = [ensemble(np.delete(logits_SR, seed, axis=0)) for seed in range(len(logits_SR))]
    return np.abs(logits_SR - np.stack(others))


def _spread_of_difference(seeds: int) -> float:
    """Return the standard deviation of a further seed around the mean of `seeds`, in standard deviations of a seed."""
    return float(np.sqrt(1 + 1 / seeds))
