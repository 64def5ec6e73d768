"""Whether a forecast's probabilities mean what they say, and maps that mend them where they do not.

A map is fitted on predictions of days that its model was not trained on, is kept as JSON, and needs numpy alone to be applied.
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
"""Bounds of a temperature: beyond them a forecast is a verdict, or the base rate."""

STEPS = 30
"""Most steps of Newton's method, which takes about seven."""
FURTHEST = 2.0
"""Longest step of a coefficient, in standard deviations of the logits: keeps the first ones from overshooting."""
SETTLED = 1e-8
"""A last step longer than this has found nothing."""


def calibration_slopes(logits: Array, labels: Labels, weights_RN: Array) -> Array:
    """Slope of the logistic regression of the label on the logit (Cox 1958), once for each set of row weights.

    1 is calibrated; below 1 the forecasts are too far from the base rate, above 1 too near to it. NaN where there is no
    slope: logits that are all equal, labels of one class, or classes that a threshold parts without an error.
    """
    spread = float(logits.std())
    if spread == 0:
        return np.full(len(weights_RN), np.nan)
    x_N = (logits - logits.mean()) / spread
    # From no slope on, Newton's steps do not overshoot; from a slope of 1 they do where the logits are far apart.
    level_R, slope_R = np.zeros(len(weights_RN)), np.zeros(len(weights_RN))
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(STEPS):
            p_RN = expit(level_R[:, None] + slope_R[:, None] * x_N)
            missed_RN, curved_RN = weights_RN * (labels - p_RN), weights_RN * p_RN * (1 - p_RN)
            first_R, second_R = missed_RN.sum(axis=1), missed_RN @ x_N
            a_R, b_R, c_R = curved_RN.sum(axis=1), curved_RN @ x_N, curved_RN @ x_N**2
            determinant_R = a_R * c_R - b_R**2
            up_R = np.clip((c_R * first_R - b_R * second_R) / determinant_R, -FURTHEST, FURTHEST)
            steeper_R = np.clip((a_R * second_R - b_R * first_R) / determinant_R, -FURTHEST, FURTHEST)
            level_R, slope_R = level_R + up_R, slope_R + steeper_R
            last_R = np.maximum(np.abs(up_R), np.abs(steeper_R))
            if not (last_R > SETTLED).any():
                break
    return np.where(last_R <= SETTLED, slope_R / spread, np.nan)


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """Divides every logit (Guo et al. 2017): above 1 probabilities move towards one half, below 1 away from it."""

    temperature: float

    def __post_init__(self) -> None:
        assert self.temperature > 0

    def __call__(self, logits: Array) -> Array:
        """Calibrated logits."""
        return logits / self.temperature


@dataclass(frozen=True, kw_only=True)
class Isotonic:
    """Any rising map (Zadrozny & Elkan 2002): straight lines between knots, level beyond the outer ones."""

    said: tuple[float, ...]
    """Probabilities of the model, rising."""
    seen: tuple[float, ...]
    """What they mean; never falling."""

    def __post_init__(self) -> None:
        assert len(self.said) == len(self.seen) > 0
        assert (np.diff(self.said) >= 0).all()
        assert (np.diff(self.seen) >= 0).all()

    def __call__(self, logits: Array) -> Array:
        """Calibrated logits."""
        return logits_of(np.interp(expit(logits), self.said, self.seen))


Calibration = Temperature | Isotonic
UNCALIBRATED = Temperature(temperature=1.0)
KINDS: dict[str, type[Calibration]] = {"temperature": Temperature, "isotonic": Isotonic}


def fitted(method: Method, logits: Array, labels: Labels) -> Calibration:
    """The map of a kind that serves these rows best; the one that changes nothing where it would not lower their log loss."""
    if method == "none":
        return UNCALIBRATED
    return _temperature(logits, labels) if method == "temperature" else _isotonic(logits, labels)


def _temperature(logits: Array, labels: Labels) -> Temperature:
    """Lowest log loss; its only minimum, since the loss is convex in the inverse of the temperature."""
    from scipy.optimize import minimize_scalar

    def loss(inverse: float) -> float:
        return float(row_losses(logits * inverse, labels).mean())

    found = minimize_scalar(loss, bounds=(1 / HOTTEST, 1 / COLDEST), method="bounded", options={"xatol": 1e-9})
    return Temperature(temperature=1 / float(found.x)) if found.fun < loss(1.0) else UNCALIBRATED


def _isotonic(logits: Array, labels: Labels) -> Calibration:
    """Isotonic regression, its levels joined by lines between the centres of their blocks (Oron & Flournoy 2017).

    Joined at the ends of the blocks, as usual, steps are nearly upright and magnify the rounding of a logit.
    A block of rows without a yes would say 0, and one yes in the future would then cost infinitely much. The bound is what
    Laplace's rule says of all rows without a yes, 1 / (n + 2): n rows cannot tell a smaller rate from none.
    """
    from sklearn.isotonic import isotonic_regression

    bound = 1 / (len(labels) + 2)
    p, place, rows = np.unique(expit(logits), return_inverse=True, return_counts=True)
    share = np.bincount(place, weights=labels) / rows
    level = isotonic_regression(share, sample_weight=rows.astype(np.float64), y_min=bound, y_max=1 - bound)
    seen, block = np.unique(level, return_inverse=True)
    said = np.bincount(block, weights=p * rows) / np.bincount(block, weights=rows)
    found = Isotonic(said=tuple(said.tolist()), seen=tuple(seen.tolist()))
    is_better = row_losses(found(logits), labels).mean() < row_losses(logits, labels).mean()
    return found if is_better else UNCALIBRATED


def as_json(calibration: Calibration) -> dict[str, Any]:
    """What is written as JSON; `from_json` makes the same map of it."""
    kind = next(name for name, one in KINDS.items() if isinstance(calibration, one))
    return {"kind": kind, **asdict(calibration)}


def from_json(told: Mapping[str, Any]) -> Calibration:
    """The map that `as_json` described."""
    values: dict[str, Any] = {name: value for name, value in told.items() if name != "kind"}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return KINDS[told["kind"]](**values)
