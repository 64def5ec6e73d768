from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from research.features import rolling

VALUES = np.random.default_rng(2).normal(0.01, 1, 200)
OTHER = np.random.default_rng(3).normal(-0.2, 2, 200) + VALUES


@pytest.mark.parametrize("length", [1, 7, 200])
def test_sums_and_variances_are_those_of_pandas(length: int):
    window = pd.Series(VALUES).rolling(length)
    np.testing.assert_allclose(rolling.rolling_sum(VALUES, length), window.sum(), atol=1e-12)
    np.testing.assert_allclose(rolling.rolling_variance(VALUES, length), window.var(ddof=0), atol=1e-12)
    np.testing.assert_allclose(rolling.rolling_moment(VALUES, length, 2), window.var(ddof=0), atol=1e-12)


def test_a_value_that_has_left_the_window_leaves_nothing_behind():
    values = np.concatenate([[1e17, 0.1], np.zeros(20)])
    assert rolling.rolling_sum(values, 5)[6:].tolist() == [0.0] * 16
    assert rolling.rolling_variance(values, 5)[6:].tolist() == [0.0] * 16


@pytest.mark.parametrize("statistic", [rolling.rolling_sum, rolling.rolling_variance, rolling.share_not_above])
def test_a_window_with_an_unknown_value_is_unknown(statistic: object):
    values = VALUES.copy()
    values[[0, 50]] = np.nan
    unknown = np.flatnonzero(np.isnan(statistic(values, 5)))
    assert unknown.tolist() == [0, 1, 2, 3, 4, 50, 51, 52, 53, 54]


@pytest.mark.parametrize("days", [0, 1, 4, 5])
def test_a_history_shorter_than_the_window_is_unknown(days: int):
    known = int(days == 5)
    for statistic in (rolling.rolling_sum, rolling.rolling_variance, rolling.share_not_above, rolling.sessions_since_highest):
        result = statistic(VALUES[:days], 5)
        assert len(result) == days
        assert np.isfinite(result).sum() == known


def test_the_correlation_with_itself_is_one_and_with_a_constant_zero():
    assert set(rolling.rolling_correlation(VALUES, VALUES, 10, floor=1e-5)[9:]) == {1.0}
    assert set(rolling.rolling_correlation(VALUES, np.full(200, 0.1), 10, floor=1e-5)[9:]) == {0.0}
    expected = pd.Series(VALUES).rolling(10).corr(pd.Series(OTHER))
    np.testing.assert_allclose(rolling.rolling_correlation(VALUES, OTHER, 10, floor=1e-5), expected, atol=1e-12)


def test_the_newest_of_equal_highs_counts():
    values = np.array([1.0, 3.0, 2.0, 3.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(rolling.sessions_since_highest(values, 3), [np.nan, np.nan, 1, 0, 1, 2, 0])


def test_a_quotient_by_nothing_has_its_stated_value():
    found = rolling.ratio(np.array([1.0, 1.0, np.nan]), np.array([2.0, 0.0, 0.0]), floor=0.0, otherwise=7.0)
    np.testing.assert_array_equal(found, [0.5, 7.0, np.nan])


def test_a_lag_longer_than_the_history_is_unknown():
    assert np.isnan(rolling.lagged(VALUES[:3], 5)).all()
    np.testing.assert_array_equal(rolling.change(np.array([1.0, 2.0, 4.0]), 2), [np.nan, np.nan, 3.0])
