"""Calibration slopes against statsmodels' logistic regression."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from research.training.calibration import calibration_slopes


def drawn(slope: float, rows: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels whose true log odds are `slope` times as large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.0, 1.3, rows)
    return logits, (rng.uniform(size=rows) < expit(slope * logits)).astype(np.int8)


@pytest.mark.parametrize("slope", [0.3, 1.0, 2.5])
def test_slopes_are_those_of_a_weighted_logistic_regression(slope: float) -> None:
    import statsmodels.api as sm

    logits, labels = drawn(slope)
    weights = np.random.default_rng(1).integers(0, 4, size=(3, len(labels))).astype(float)
    found = calibration_slopes(logits, labels, weights)
    for one, weight in zip(found, weights, strict=True):
        model = sm.GLM(labels, sm.add_constant(logits), family=sm.families.Binomial(), freq_weights=weight)
        assert one == pytest.approx(model.fit(tol=1e-12).params[1], rel=1e-6)


def test_there_is_no_slope_where_nothing_decides_it() -> None:
    logits, labels = drawn(1.0, rows=50)
    once = np.ones((1, 50))
    assert np.isnan(calibration_slopes(np.zeros(50), labels, once)).all()
    assert np.isnan(calibration_slopes(logits, np.zeros(50, dtype=np.int8), once)).all()
    assert np.isnan(calibration_slopes(logits, (logits > 0).astype(np.int8), once)).all()
