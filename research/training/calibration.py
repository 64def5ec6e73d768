"""Whether a forecast's probabilities mean what they say."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from research.training.metrics import Array, Labels

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
    level_R, slope_R = np.zeros(len(weights_RN)), np.full(len(weights_RN), spread)
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
