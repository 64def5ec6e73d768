"""Scores of held-out forecasts, against numbers worked out by hand or by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from research.evaluation.verification import acting, average_precision, brier_parts, rolling_rate, thresholds


def test_the_parts_of_a_brier_score_by_hand() -> None:
    probabilities, labels = np.array([0.2, 0.2, 0.8, 0.8]), np.array([0, 0, 1, 0], dtype=np.int8)
    found = brier_parts(probabilities, labels, bins=2)
    assert found.brier == pytest.approx((0.04 + 0.04 + 0.04 + 0.64) / 4)
    assert found.reliability == pytest.approx((0.2**2 + 0.3**2) / 2)
    assert found.resolution == pytest.approx((0.25**2 + 0.25**2) / 2)
    assert found.uncertainty == pytest.approx(0.25 * 0.75)
    assert found.within == pytest.approx(0, abs=1e-12)


def test_what_bins_leave_over_is_said() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(size=500)
    labels = (rng.uniform(size=500) < probabilities).astype(np.int8)
    found = brier_parts(probabilities, labels)
    assert found.reliability - found.resolution + found.uncertainty + found.within == pytest.approx(found.brier)
    assert abs(found.within) > 1e-6


@pytest.mark.parametrize("digits", [1, 6])
def test_average_precision_and_the_best_f1_are_those_of_scikit_learn(digits: int) -> None:
    rng = np.random.default_rng(1)
    probabilities = rng.uniform(size=300).round(digits)
    labels = (rng.uniform(size=300) < probabilities**2).astype(np.int8)
    assert average_precision(probabilities, labels) == pytest.approx(average_precision_score(labels, probabilities))
    best = max(f1_score(labels, probabilities >= threshold) for threshold in probabilities)
    assert f1_score(labels, probabilities >= thresholds(probabilities, labels)["F1"]) == pytest.approx(best)


def test_acting_counts_what_it_rests_on() -> None:
    found = acting(np.array([0.1, 0.5, 0.6, 0.9]), np.array([1, 1, 0, 1], dtype=np.int8), 0.5)
    assert (found.said_yes, found.positives, found.hits) == (3, 3, 2)
    assert found.precision == found.recall == pytest.approx(2 / 3)
    nothing = acting(np.array([0.1]), np.array([0], dtype=np.int8), 0.5)
    assert np.isnan([nothing.precision, nothing.recall]).all()


def test_the_rolling_rate_knows_only_labels_that_are_known() -> None:
    labels = np.array([1, 0, 1, 1, 0, 1], dtype=np.int8)
    found = rolling_rate(labels, np.array([4, 5]), horizon=2, days=3)
    # On day 4 the labels of days 0..2 are known, on day 5 those of 1..3.
    assert found == pytest.approx([(2 + 1) / (3 + 2), (2 + 1) / (3 + 2)])
    later = labels.copy()
    later[4:] = 1 - later[4:]
    assert rolling_rate(later, np.array([4, 5]), horizon=2, days=3) == pytest.approx(found)
    assert rolling_rate(labels, np.array([0]), horizon=2) == pytest.approx([0.5])
