"""Calibration of probabilities: how far they are off, and maps that correct them.

A map is fitted on predictions for days that its model was not trained on. It is stored as JSON and needs only numpy to apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from research.evaluation.metrics import Array, Labels, logits_of, row_losses

Method = Literal["none", "temperature", "isotonic"]
METHODS: tuple[Method, ...] = ("none", "temperature", "isotonic")
COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of a temperature: beyond them every probability is 0 or 1, or the base rate."""

MAX_STEPS = 30
"""Limit on the steps of Newton's method, which takes about seven."""
LONGEST_STEP = 2.0
"""Limit on the step of a coefficient, in standard deviations of the logits: the first steps would overshoot."""
TOLERANCE = 1e-8
"""Length of the last step above which the method has not converged."""


def calibration_slopes(logits: Array, labels: Labels, weights_RN: Array) -> Array:
    """Return the slope of the logistic regression of the label on the logit (Cox 1958) for each set of row weights, [R].

    1 is calibrated; below 1 the forecasts are too far from the base rate, above 1 too near to it. NaN if there is no
    slope: all logits equal, labels of one class, or classes that a threshold separates without an error.
    """
    spread = float(logits.std())
    if spread == 0:
        return np.full(len(weights_RN), np.nan)
    x_N = (logits - logits.mean()) / spread
    # Newton's steps do not overshoot from a slope of 0; from a slope of 1 they do if the logits are far apart.
    level_R, slope_R = np.zeros(len(weights_RN)), np.zeros(len(weights_RN))
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(MAX_STEPS):
            p_RN = expit(level_R[:, None] + slope_R[:, None] * x_N)
            residual_RN, curvature_RN = weights_RN * (labels - p_RN), weights_RN * p_RN * (1 - p_RN)
            first_R, second_R = residual_RN.sum(axis=1), residual_RN @ x_N
            a_R, b_R, c_R = curvature_RN.sum(axis=1), curvature_RN @ x_N, curvature_RN @ x_N**2
            determinant_R = a_R * c_R - b_R**2
            level_step_R = np.clip((c_R * first_R - b_R * second_R) / determinant_R, -LONGEST_STEP, LONGEST_STEP)
            slope_step_R = np.clip((a_R * second_R - b_R * first_R) / determinant_R, -LONGEST_STEP, LONGEST_STEP)
            level_R, slope_R = level_R + level_step_R, slope_R + slope_step_R
            last_R = np.maximum(np.abs(level_step_R), np.abs(slope_step_R))
            if not (last_R > TOLERANCE).any():
                break
    return np.where(last_R <= TOLERANCE, slope_R / spread, np.nan)


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """A divisor of every logit (Guo et al. 2017): above 1 it moves probabilities towards one half, below 1 away from it."""

    temperature: float

    def __post_init__(self) -> None:
        assert self.temperature > 0

    def __call__(self, logits: Array) -> Array:
        """Return calibrated logits."""
        return logits / self.temperature


@dataclass(frozen=True, kw_only=True)
class Isotonic:
    """A monotonic map (Zadrozny & Elkan 2002): linear between knots, constant beyond the outer ones."""

    said: tuple[float, ...]
    """Probabilities of the model at the knots, rising."""
    seen: tuple[float, ...]
    """Calibrated probabilities at the knots, never falling."""

    def __post_init__(self) -> None:
        assert len(self.said) == len(self.seen) > 0
        assert (np.diff(self.said) >= 0).all()
        assert (np.diff(self.seen) >= 0).all()

    def __call__(self, logits: Array) -> Array:
        """Return calibrated logits."""
        return logits_of(np.interp(expit(logits), self.said, self.seen))


Calibration = Temperature | Isotonic
UNCALIBRATED = Temperature(temperature=1.0)
KINDS: dict[str, type[Calibration]] = {"temperature": Temperature, "isotonic": Isotonic}


def fitted(method: Method, logits: Array, labels: Labels) -> Calibration:
    """Return the map that minimises the log loss of these rows, or `UNCALIBRATED` if no map lowers it."""
    if method == "none":
        return UNCALIBRATED
    return _temperature(logits, labels) if method == "temperature" else _isotonic(logits, labels)


def _temperature(logits: Array, labels: Labels) -> Temperature:
    """Return the temperature with the lowest log loss, which is convex in the inverse of the temperature."""
    from scipy.optimize import minimize_scalar

    def loss(inverse: float) -> float:
        return float(row_losses(logits * inverse, labels).mean())

    minimum = minimize_scalar(loss, bounds=(1 / HOTTEST, 1 / COLDEST), method="bounded", options={"xatol": 1e-9})
    return Temperature(temperature=1 / float(minimum.x)) if minimum.fun < loss(1.0) else UNCALIBRATED


def _isotonic(logits: Array, labels: Labels) -> Calibration:
    """Return isotonic regression with its levels joined by lines between the centres of their blocks (Oron & Flournoy 2017).

    Lines between the ends of blocks, the usual form, are nearly vertical and magnify the rounding of a logit. A block without
    a positive would give 0, and one later positive an infinite loss. The bound is Laplace's estimate for n rows without a
    positive, 1 / (n + 2): n rows cannot distinguish a smaller rate from 0.
    """
    from sklearn.isotonic import isotonic_regression

    bound = 1 / (len(labels) + 2)
    p, group, rows = np.unique(expit(logits), return_inverse=True, return_counts=True)
    share = np.bincount(group, weights=labels) / rows
    level = isotonic_regression(share, sample_weight=rows.astype(np.float64), y_min=bound, y_max=1 - bound)
    observed, block = np.unique(level, return_inverse=True)
    predicted = np.bincount(block, weights=p * rows) / np.bincount(block, weights=rows)
    isotonic = Isotonic(said=tuple(predicted.tolist()), seen=tuple(observed.tolist()))
    is_better = row_losses(isotonic(logits), labels).mean() < row_losses(logits, labels).mean()
    return isotonic if is_better else UNCALIBRATED


def as_json(calibration: Calibration) -> dict[str, Any]:
    """Return the JSON form of a map; `from_json` is the inverse."""
    kind = next(name for name, map_type in KINDS.items() if isinstance(calibration, map_type))
    return {"kind": kind, **asdict(calibration)}


def from_json(content: Mapping[str, Any]) -> Calibration:
    """Return the map of a JSON form."""
    values: dict[str, Any] = {name: value for name, value in content.items() if name != "kind"}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return KINDS[content["kind"]](**values)
