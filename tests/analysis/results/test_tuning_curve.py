"""The expected best of n is the mean over subsets, unbiased, and its error is about the spread over searches."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.results.tuning_curve import expected_best, search_error, tuning_curve

LOSSES = st.lists(st.floats(0.1, 2.0), min_size=1, max_size=9)


@given(LOSSES, st.data())
def test_the_expected_best_is_the_mean_over_all_subsets(losses: list[float], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(losses)))
    brute_force = np.mean([min(subset) for subset in combinations(losses, n)])
    assert expected_best(np.array(losses), n) == pytest.approx(float(brute_force))


def test_the_expected_best_is_unbiased_and_drawing_with_replacement_is_not() -> None:
    rng, trials, n, truth = np.random.default_rng(0), 8, 4, 1 / 5
    searches = rng.random((4000, trials))
    unbiased = [expected_best(search, n) for search in searches]
    ranks = np.arange(1, trials + 1)
    weights = ((trials - ranks + 1) / trials) ** n - ((trials - ranks) / trials) ** n
    with_replacement = np.sort(searches, axis=1) @ weights
    error = float(np.std(unbiased)) / 4000**0.5
    assert abs(float(np.mean(unbiased)) - truth) < 3 * error
    assert float(with_replacement.mean()) - truth > 10 * error


def test_many_trials_neither_overflow_nor_take_long() -> None:
    losses = np.random.default_rng(1).random(5000)
    assert expected_best(losses, 100) == pytest.approx(1 / 101, rel=0.1)
    assert expected_best(losses, 5000) == losses.min()
    assert len(tuning_curve(losses)) <= 40


@pytest.mark.parametrize("n", [0, 4])
def test_more_draws_than_trials_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match="there are 3 trials"):
        expected_best(np.ones(3), n)


@pytest.mark.parametrize(
    ("draw", "n", "lowest"), [("gamma", 6, 0.8), ("gamma", 12, 0.7), ("normal", 6, 0.6), ("normal", 12, 0.5)]
)
def test_the_error_is_about_the_spread_over_searches(draw: str, n: int, lowest: float) -> None:
    rng = np.random.default_rng(2)
    searches = [rng.gamma(2, 1, 12) if draw == "gamma" else rng.normal(size=12) for _ in range(200)]
    truth = np.std([expected_best(search, n) for search in searches])
    estimate = np.mean([search_error(search, n) for search in searches])
    assert lowest < estimate / truth < 1.15


def test_a_curve_falls_with_n_and_starts_at_the_mean() -> None:
    losses = np.random.default_rng(3).normal(0.4, 0.02, 15)
    curve = tuning_curve(losses)
    assert list(curve["n"]) == sorted(set(curve["n"]))
    assert curve["expected_best"].is_monotonic_decreasing
    assert curve["expected_best"].iloc[0] == pytest.approx(losses.mean())
    assert curve["expected_best"].iloc[-1] == losses.min()
    assert (curve["standard_error"] > 0).all()


def test_a_single_trial_has_no_error() -> None:
    assert np.isnan(search_error(np.array([0.4]), 1))
    assert tuning_curve(np.array([0.4]))["standard_error"].isna().all()
