from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.features.scaler import Scaler


def made(seed: int, rows: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 3, (rows, 4)) * [1, 10, 100, 1e-4]


@given(seed=st.integers(0, 10_000), border=st.integers(2, 59), level=st.floats(-1e6, 1e6))
@settings(deadline=None, max_examples=60)
def test_values_outside_of_the_training_rows_change_nothing(seed: int, border: int, level: float):
    values, rows = made(seed), np.arange(border)
    before = Scaler.fit(values, rows)
    values[border:] += level
    after = Scaler.fit(values, rows)
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_array_equal(before.scale, after.scale)


def test_rows_with_gaps_between_them_are_the_only_ones_used():
    values, rows = made(1), np.array([3, 7, 20, 21])
    fitted = Scaler.fit(values, rows)
    np.testing.assert_allclose(fitted.mean, values[rows].mean(axis=0))
    np.testing.assert_allclose(fitted.scale, values[rows].std(axis=0))


@given(seed=st.integers(0, 10_000), border=st.integers(2, 60))
@settings(deadline=None, max_examples=60)
def test_training_rows_get_zero_mean_and_unit_scale(seed: int, border: int):
    values, rows = made(seed), np.arange(border)
    standardised = Scaler.fit(values, rows).apply(values)
    assert standardised.dtype == np.float32
    np.testing.assert_allclose(standardised[rows].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standardised[rows].std(axis=0), 1, atol=1e-5)


def test_scaling_is_undone_by_scale_and_mean():
    values = made(2)
    before = values.copy()
    fitted = Scaler.fit(values, np.arange(30))
    np.testing.assert_allclose(fitted.apply(values) * fitted.scale + fitted.mean, before, rtol=1e-4)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("constant", [0.0, 3.0, 0.1, 5.3, float(np.log(0.01))])
@pytest.mark.parametrize("rows", [10, 100, 3000])
def test_a_constant_column_keeps_scale_one(constant: float, rows: int):
    values = np.column_stack([made(3, rows), np.full(rows, constant)])
    values[-1, -1] = constant + 1.0
    fitted = Scaler.fit(values, np.arange(rows - 1))
    assert fitted.scale[-1] == 1.0
    assert fitted.apply(values)[-1, -1] == pytest.approx(1.0)
    assert (fitted.scale[:-1] != 1.0).all()


@given(st.floats(1e-12, 1e12), st.floats(-1e3, 1e3))
@settings(deadline=None, max_examples=60)
def test_a_column_in_another_unit_scales_to_the_same_values(factor: float, shift_in_scales: float):
    values, rows = made(4), np.arange(40)
    other = factor * (values + shift_in_scales * values.std(axis=0))
    np.testing.assert_allclose(Scaler.fit(other, rows).apply(other), Scaler.fit(values, rows).apply(values), atol=1e-4)
