"""From the logits of several seeds to one answer: their mean probability, calibrated, and where a further seed would lie."""

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
    """The noise of training, and nothing of what is yet to come: a band around an ensemble's logit.

    It has one width, so that an answer does not depend on the rows that were sent beside it.
    """

    half_width: float
    """On the logit scale, before calibration."""
    seeds: int
    """That the ensemble has."""
    level: float
    """Share of a further seed's answers that lie within."""

    def bounds(self, logits: Array) -> tuple[Array, Array]:
        """Lower and upper logit; a rising calibration may be applied to both."""
        return logits - self.half_width, logits + self.half_width

    def coverage(self, logits_SR: Array) -> float:
        """Share of answers within the band around the other seeds, which is wider since they are fewer by one."""
        wider = _spread_of_difference(self.seeds - 1) / _spread_of_difference(self.seeds)
        return float((_left_out(logits_SR) <= self.half_width * wider).mean())


@dataclass(frozen=True, kw_only=True)
class EnsembleOutput:
    """What a model does with the logits of its seeds, the same in an evaluation and where it is served."""

    calibration: Calibration = UNCALIBRATED
    interval: SeedInterval | None = None
    """Of an ensemble; a single seed does not tell how far another would be."""

    def __call__(self, logits_SR: Array) -> dict[str, Array]:
        """Columns `probability`, and of an ensemble `low` and `high`."""
        said = ensemble(logits_SR)
        logits = {"probability": said}
        if self.interval is not None:
            # A rising map keeps the order: what lies within before it lies within after it.
            logits["low"], logits["high"] = self.interval.bounds(said)
        return {name: expit(self.calibration(one)) for name, one in logits.items()}

    def files(self) -> dict[str, dict[str, Any]]:
        """What a model's files hold of it, by name and as JSON; nothing where there is nothing to do."""
        found = {} if self.calibration == UNCALIBRATED else {"calibration": as_json(self.calibration)}
        return found if self.interval is None else {**found, "seed_interval": asdict(self.interval)}


def load_ensemble_output(files: Mapping[str, Any]) -> EnsembleOutput:
    """What `files` describe; a model that was registered before there were any has neither."""
    calibration, interval = files.get("calibration"), files.get("seed_interval")
    return EnsembleOutput(
        calibration=from_json(calibration) if calibration else UNCALIBRATED,
        interval=SeedInterval(**interval) if interval else None,
    )


def seed_interval(logits_SR: Array, level: float = LEVEL) -> SeedInterval:
    """The width that would have held each left-out seed on a share `level` of these rows.

    Pooled over seeds and rows: what seeds disagree on differs from day to day, so that already two of them show it. Students'
    t on seeds - 1 degrees of freedom would be for seeds that are off by the same on every day.
    """
    seeds = len(logits_SR)
    assert seeds > 1
    narrower = _spread_of_difference(seeds) / _spread_of_difference(seeds - 1)
    return SeedInterval(half_width=float(np.quantile(_left_out(logits_SR), level)) * narrower, seeds=seeds, level=level)


def ensemble(logits_SR: Array) -> Array:
    """Logit of the mean probability over seeds, one per row."""
    return logits_of(expit(logits_SR).mean(axis=0))


def _left_out(logits_SR: Array) -> Array:
    """[S, R] distance of each seed's logit from the ensemble of the others."""
    others = [ensemble(np.delete(logits_SR, seed, axis=0)) for seed in range(len(logits_SR))]
    return np.abs(logits_SR - np.stack(others))


def _spread_of_difference(seeds: int) -> float:
    """Standard deviation of one more seed around the mean of `seeds`, in standard deviations of a seed."""
    return float(np.sqrt(1 + 1 / seeds))
