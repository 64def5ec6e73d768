"""Equal forecasts are called different about one time in twenty, and different ones are found as often as promised."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter
from statsmodels.stats.multitest import multipletests

from analysis.results.model_confidence_set import confidence_set
from research.errors import InputError
from research.evaluation.forecast_tests import holm, minimum_detectable, pair_test
from research.evaluation.significance import diebold_mariano, long_run_variance

DAYS = 877


def differences(seed: int, overlap: int = 1, days: int = DAYS) -> NDArray[np.float64]:
    """Loss differences of mean zero that share `overlap` - 1 days with their neighbours."""
    shocks = np.random.default_rng(seed).normal(size=days + overlap)
    return np.asarray(lfilter(np.ones(overlap), [1], shocks)[overlap:] / overlap**0.5)


@pytest.mark.parametrize("horizon", [1, 5])
def test_equal_forecasts_are_told_apart_in_one_of_twenty_studies(horizon: int) -> None:
    found = [diebold_mariano(differences(seed, horizon), np.zeros(DAYS), horizon).p_value < 0.05 for seed in range(600)]
    assert 0.03 < np.mean(found) < 0.08


def test_lags_cover_the_overlap_of_labels() -> None:
    assert diebold_mariano(differences(0), np.zeros(DAYS), 1).lags == round(1.3 * DAYS**0.5)
    assert diebold_mariano(differences(0), np.zeros(DAYS), 100).lags == 99


def test_the_long_run_variance_is_that_of_the_mean() -> None:
    """Of a moving average of q shocks it is q times the variance of a day."""
    found = np.mean([long_run_variance(differences(seed, 5), 38) for seed in range(100)])
    assert found == pytest.approx(5, rel=0.15)
    assert long_run_variance(differences(0), 0) == pytest.approx(differences(0).var())


def test_the_small_sample_correction_is_that_of_the_paper() -> None:
    """Harvey, Leybourne & Newbold 1997, equation 9, with h = lags + 1, by hand."""
    values = differences(1) + 0.05
    found = diebold_mariano(values, np.zeros(DAYS), 1)
    h, plain = found.lags + 1, values.mean() / (long_run_variance(values, found.lags) / DAYS) ** 0.5
    assert found.statistic == pytest.approx(plain * ((DAYS + 1 - 2 * h + h * (h - 1) / DAYS) / DAYS) ** 0.5)


def test_a_constant_edge_without_noise_needs_no_test() -> None:
    assert diebold_mariano(np.ones(50), np.ones(50), 1).p_value == 1


@pytest.mark.parametrize("count", range(1, 9))
def test_holm_is_that_of_statsmodels(count: int) -> None:
    # Rounded, so that some are equal.
    p_values = np.random.default_rng(count).random(count).round(1) ** 3
    assert holm(list(p_values)) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_the_detectable_difference_is_found_in_four_of_five_studies() -> None:
    shift = float(np.mean([minimum_detectable(differences(seed)) for seed in range(10)]))
    found = [diebold_mariano(differences(seed) + shift, np.zeros(DAYS), 1).p_value < 0.05 for seed in range(300)]
    assert 0.70 < np.mean(found) < 0.90


def test_both_tests_of_a_pair_see_the_same_difference() -> None:
    shared = np.abs(differences(2))
    found = pair_test(shared + 0.1 + 0.01 * differences(3), shared, 1)
    assert found.difference.mean == pytest.approx(0.1, abs=0.01)
    assert not found.difference.inside_noise
    assert found.dm.p_value < 0.001
    assert found.detectable < 0.01


def test_the_confidence_set_keeps_the_equal_and_drops_the_bad() -> None:
    shared = 0.4 + np.abs(differences(4))
    losses = {
        "one": shared + 0.02 * differences(5),
        "equal": shared + 0.02 * differences(6),
        "bad": shared + 0.05 + 0.02 * differences(7),
        "worse": shared + 0.1 + 0.02 * differences(8),
    }
    found = {one.name: one.is_in for one in confidence_set(losses)}
    assert found == {"one": True, "equal": True, "bad": False, "worse": False}


def test_a_model_that_is_there_twice_stays_there_twice() -> None:
    good, bad = np.abs(differences(9)), np.abs(differences(9)) + 0.5 + 0.01 * differences(10)
    found = confidence_set({"20K": good, "bad": bad, "linked": good.copy()})
    assert [(one.name, one.is_in) for one in found] == [("20K", True), ("linked", True), ("bad", False)]
    assert confidence_set({"alone": good, "twin": good})[0].p_value == 1


def test_models_of_other_days_are_refused() -> None:
    with pytest.raises(InputError, match="not predicted on the same days"):
        confidence_set({"a": np.ones(10), "b": np.ones(11)})


@pytest.mark.slow
def test_the_confidence_set_seldom_loses_one_of_equal_models() -> None:
    """All five are a best one, so that the set should miss any in about 5% of studies; few blocks make it somewhat more."""
    draws = [np.random.default_rng(seed).normal(size=(5, DAYS)) for seed in range(100)]
    kept = [all(one.is_in for one in confidence_set({str(place): row for place, row in enumerate(each)})) for each in draws]
    assert np.mean(kept) > 0.87
