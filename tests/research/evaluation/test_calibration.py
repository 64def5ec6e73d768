"""Maps never turn an order around, never worsen the days they were fitted on, and survive JSON; slopes are statsmodels'."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from research.evaluation.calibration import (
    METHODS,
    UNCALIBRATED,
    Isotonic,
    Method,
    Temperature,
    as_json,
    calibration_slopes,
    fitted,
    from_json,
)
from research.evaluation.metrics import row_losses

LOGIT = st.floats(-12, 12)
FORECASTS = st.integers(2, 60).flatmap(
    lambda rows: st.tuples(arrays(np.float64, rows, elements=LOGIT), arrays(np.int8, rows, elements=st.integers(0, 1)))
)


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


def test_a_small_slope_of_extreme_forecasts_is_found() -> None:
    logits, labels = drawn(0.02)
    found = calibration_slopes(50 * logits, labels, np.ones((1, len(labels))))
    assert found == pytest.approx(calibration_slopes(logits, labels, np.ones((1, len(labels)))) / 50)


def test_there_is_no_slope_where_nothing_decides_it() -> None:
    logits, labels = drawn(1.0, rows=50)
    once = np.ones((1, 50))
    assert np.isnan(calibration_slopes(np.zeros(50), labels, once)).all()
    assert np.isnan(calibration_slopes(logits, np.zeros(50, dtype=np.int8), once)).all()
    assert np.isnan(calibration_slopes(logits, (logits > 0).astype(np.int8), once)).all()


@settings(max_examples=40, deadline=None)
@given(FORECASTS, st.sampled_from(METHODS))
def test_a_map_is_rising_and_survives_json(forecast: tuple[np.ndarray, np.ndarray], method: Method) -> None:
    found = fitted(method, *forecast)
    assert from_json(json.loads(json.dumps(as_json(found)))) == found
    mapped = expit(found(np.linspace(-15, 15, 301)))
    assert (np.diff(mapped) >= 0).all()
    if isinstance(found, Isotonic):
        bound = 1 / (len(forecast[1]) + 2)
        assert mapped.min() >= bound * (1 - 1e-9)
        assert mapped.max() <= 1 - bound * (1 - 1e-9)


@settings(max_examples=40, deadline=None)
@given(FORECASTS, st.sampled_from(METHODS))
def test_the_days_that_it_was_fitted_on_are_not_worse_after(forecast: tuple[np.ndarray, np.ndarray], method: Method) -> None:
    logits, labels = forecast
    before, after = (row_losses(one, labels).mean() for one in (logits, fitted(method, logits, labels)(logits)))
    assert after <= before + 1e-12


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, 20, elements=LOGIT))
def test_a_temperature_of_one_changes_nothing(logits: np.ndarray) -> None:
    assert np.array_equal(UNCALIBRATED(logits), logits)


@pytest.mark.parametrize("slope", [0.5, 2.0])
def test_a_temperature_undoes_what_was_too_sure_or_not_sure_enough(slope: float) -> None:
    found = fitted("temperature", *drawn(slope, rows=20_000))
    assert isinstance(found, Temperature)
    assert found.temperature == pytest.approx(1 / slope, rel=0.05)


def test_an_isotonic_map_has_the_levels_of_scikit_learn_at_the_centres_of_their_blocks() -> None:
    logits, labels = drawn(0.3)
    found = fitted("isotonic", logits, labels)
    p, bound = expit(logits), 1 / (len(labels) + 2)
    theirs = np.clip(IsotonicRegression().fit(p, labels).predict(p), bound, 1 - bound).round(9)
    assert isinstance(found, Isotonic)
    assert found.seen == pytest.approx(np.unique(theirs), abs=1e-8)
    assert found.said == pytest.approx([p[theirs == level].mean() for level in np.unique(theirs)])
