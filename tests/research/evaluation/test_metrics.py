"""Metrics against formulas and libraries that know nothing of ours; a sigmoid is applied once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import expit
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from research.evaluation.metrics import (
    COLLAPSED_SPREAD,
    alarm,
    auc_by_day,
    auc_with_error,
    base_rate_loss,
    calibration_error,
    calibration_error_by_chance,
    logits_of,
    reliability,
    row_losses,
    scores,
)
from research.evaluation.significance import standard_error

Forecast = tuple[NDArray[np.float64], NDArray[np.int8]]


@st.composite
def forecasts(draw: st.DrawFn) -> Forecast:
    """Logits, often tied, and labels with at least two of each class."""
    rows = draw(st.integers(4, 60))
    one_decimal = st.integers(-80, 80).map(lambda tenths: tenths / 10)
    logits = draw(arrays(np.float64, rows, elements=one_decimal))
    free = draw(arrays(np.int8, rows - 4, elements=st.integers(0, 1)))
    return logits, np.concatenate([np.array([0, 1, 0, 1], dtype=np.int8), free])


def informed(seed: int, rows: int) -> Forecast:
    """A calibrated forecast of some skill."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.2, rows)
    return logits, (rng.random(rows) < expit(logits)).astype(np.int8)


@given(forecasts())
@settings(deadline=None)
def test_the_sigmoid_is_applied_once(forecast: Forecast) -> None:
    logits, labels = forecast
    result = scores(logits, labels, training_base_rate=0.4)
    assert result.loss == pytest.approx(log_loss(labels, expit(logits)), abs=1e-9)
    assert result.brier == pytest.approx(brier_score_loss(labels, expit(logits)), abs=1e-12)
    assert result.spread == pytest.approx(expit(logits).std(), abs=1e-12)
    assert result.n == len(labels)


@given(forecasts())
@settings(deadline=None)
def test_row_losses_are_the_log_of_the_probability_given_to_what_happened(forecast: Forecast) -> None:
    logits, labels = forecast
    given_to_truth = np.where(labels == 1, expit(logits), 1 - expit(logits))
    np.testing.assert_allclose(row_losses(logits, labels), -np.log(given_to_truth), rtol=1e-9, atol=1e-12)


def test_row_losses_hold_at_extreme_logits() -> None:
    logits = np.array([1000.0, 1000.0, -1000.0, -1000.0, 0.0])
    losses = row_losses(logits, np.array([1, 0, 1, 0, 1], dtype=np.int8))
    assert losses.tolist() == [0.0, 1000.0, 1000.0, 0.0, pytest.approx(np.log(2))]


@given(forecasts())
@settings(deadline=None)
def test_a_constant_model_costs_the_entropy_of_the_base_rate(forecast: Forecast) -> None:
    labels = forecast[1]
    rate = labels.mean()
    result = scores(logits_of(np.full(len(labels), rate)), labels, training_base_rate=rate)
    assert result.loss == pytest.approx(-rate * np.log(rate) - (1 - rate) * np.log(1 - rate))
    assert result.base_rate_loss == pytest.approx(result.loss)
    assert result.skill == pytest.approx(0, abs=1e-12)
    assert (result.auc, alarm(result)) == (0.5, "collapsed")


def test_the_base_rate_is_that_of_training_not_of_the_evaluated_rows() -> None:
    labels = np.array([1, 0, 0, 0, 0], dtype=np.int8)
    expected = -(np.log(0.5) + 4 * np.log(0.5)) / 5
    assert base_rate_loss(labels, 0.5) == pytest.approx(expected)
    assert base_rate_loss(labels, 0.5) > base_rate_loss(labels, 0.2)


@given(st.floats(1e-9, 1 - 1e-9))
@settings(deadline=None)
def test_logits_and_probabilities_are_inverses(probability: float) -> None:
    assert expit(logits_of(np.array([probability])))[0] == pytest.approx(probability, rel=1e-6)


def test_certain_probabilities_have_finite_logits() -> None:
    assert np.isfinite(logits_of(np.array([0.0, 1.0]))).all()


@given(forecasts())
@settings(deadline=None)
def test_auc_is_the_area_under_the_curve_ties_included(forecast: Forecast) -> None:
    logits, labels = forecast
    assert auc_with_error(logits, labels)[0] == pytest.approx(roc_auc_score(labels, logits))


@given(forecasts())
@settings(deadline=None)
def test_auc_error_is_delongs(forecast: Forecast) -> None:
    logits, labels = forecast
    ones, zeros = logits[labels == 1][:, None], logits[labels == 0][None, :]
    wins = (ones > zeros) + 0.5 * (ones == zeros)
    variance = wins.mean(1).var(ddof=1) / ones.size + wins.mean(0).var(ddof=1) / zeros.size
    assert auc_with_error(logits, labels)[1] == pytest.approx(np.sqrt(variance), abs=1e-9)


def test_auc_error_is_that_of_a_bootstrap() -> None:
    logits, labels = informed(seed=0, rows=400)
    rng = np.random.default_rng(1)
    resampled = [auc_with_error(logits[rows], labels[rows])[0] for rows in rng.integers(0, 400, (1000, 400))]
    assert auc_with_error(logits, labels)[1] == pytest.approx(np.std(resampled), rel=0.1)


def test_what_days_add_to_the_auc_tells_how_far_a_persistent_market_takes_it() -> None:
    """Log volatility as an AR(1) of .97: rows that are taken as independent promise half of the distance that there is."""
    rng = np.random.default_rng(3)
    shocks = rng.normal(size=(60, 880)) * np.sqrt(1 - 0.97**2)
    found, errors, widths = [], [], []
    for shock in shocks:
        logits = lfilter([1], [1, -0.97], shock) - 1.2
        labels = (rng.random(880) < expit(logits)).astype(np.int8)
        auc, error = auc_with_error(logits, labels)
        daily = auc_by_day(logits, labels, np.arange(880))
        assert daily.mean() == pytest.approx(auc, abs=1e-12)
        found, errors, widths = [*found, auc], [*errors, error], [*widths, standard_error(daily)]
    assert np.mean(errors) < 0.65 * np.std(found)
    assert np.mean(widths) > 0.75 * np.std(found)


def test_days_of_several_instruments_add_to_the_auc_together() -> None:
    rng = np.random.default_rng(5)
    labels, days = (rng.random(300) < 0.4).astype(np.int8), np.tile(np.arange(100), 3)
    logits = labels + rng.normal(size=300)
    auc, error = auc_with_error(logits, labels, days)
    daily = auc_by_day(logits, labels, days)
    assert (len(daily), daily.mean()) == (100, pytest.approx(auc))
    assert np.sqrt(np.sum(((daily - auc) / 100) ** 2)) == pytest.approx(error)
    assert np.isnan(auc_by_day(logits, np.ones(300, np.int8), days)).all()


def test_loss_error_is_that_of_a_bootstrap() -> None:
    logits, labels = informed(seed=2, rows=400)
    rng = np.random.default_rng(3)
    resampled = row_losses(logits, labels)[rng.integers(0, 400, (2000, 400))].mean(axis=1)
    assert scores(logits, labels, 0.4).loss_se == pytest.approx(resampled.std(), rel=0.1)


@pytest.mark.parametrize("label", [0, 1])
def test_auc_of_one_class_is_not_a_number(label: int) -> None:
    logits, labels = np.linspace(-1, 1, 20), np.full(20, label, dtype=np.int8)
    assert np.isnan(auc_with_error(logits, labels)).all()
    assert np.isfinite(scores(logits, labels, 0.4).loss)


def test_reliability_bins_have_equal_mass_and_rising_probability() -> None:
    logits, labels = informed(seed=4, rows=1003)
    table = reliability(expit(logits), labels)
    said, seen, rows = (np.array(column) for column in zip(*table))
    assert (len(table), rows.sum()) == (10, 1003)
    assert set(rows) <= {100, 101}
    assert (np.diff(said) > 0).all()
    assert (said * rows).sum() == pytest.approx(expit(logits).sum())
    assert (seen * rows).sum() == pytest.approx(labels.sum())


def test_reliability_of_few_rows_has_no_empty_bin() -> None:
    assert reliability(np.array([0.2, 0.8, 0.5]), np.array([0, 1, 1], dtype=np.int8)) == [(0.2, 0, 1), (0.5, 1, 1), (0.8, 1, 1)]


def test_calibration_error_is_the_distance_between_said_and_seen() -> None:
    logits, labels = informed(seed=5, rows=20_000)
    assert calibration_error(expit(logits), labels) < 0.015
    # Saying 0.2 where 0.5 happens costs 0.3.
    half = np.tile(np.array([0, 1], dtype=np.int8), 500)
    assert calibration_error(np.full(1000, 0.2), half) == pytest.approx(0.3)
    assert calibration_error(np.full(1000, 0.5), half) == pytest.approx(0)


@pytest.mark.parametrize("seed", range(3))
def test_a_constant_at_the_observed_share_is_calibrated_in_any_row_order(seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat([0, 1], [70, 30])).astype(np.int8)
    assert calibration_error(np.full(100, 0.3), labels) == pytest.approx(0, abs=1e-9)


def test_true_probabilities_have_the_calibration_error_of_chance() -> None:
    rng = np.random.default_rng(2)
    probabilities = expit(rng.normal(-1.2, 0.8, size=881))
    found = [calibration_error(probabilities, (rng.random(881) < probabilities).astype(np.int8)) for _ in range(300)]
    assert calibration_error_by_chance(probabilities) == pytest.approx(np.mean(found), rel=0.05)
    assert np.mean(found) > 0.03


def test_alarm_tells_a_constant_from_a_useless_and_a_good_forecast() -> None:
    logits, labels = informed(seed=6, rows=500)
    rate = float(labels.mean())
    nearly_constant = logits_of(np.full(500, rate)) + 1e-3 * logits
    assert alarm(scores(nearly_constant, labels, rate)) == "collapsed"
    assert alarm(scores(-logits, labels, rate)) == "no-skill"
    assert alarm(scores(logits, labels, rate)) == "none"


def test_a_little_spread_is_no_collapse() -> None:
    logits, labels = informed(seed=7, rows=500)
    result = scores(0.1 * logits + logits_of(labels.mean()), labels, float(labels.mean()))
    assert result.spread > 4 * COLLAPSED_SPREAD
    assert alarm(result) == "none"


def test_copies_of_an_instrument_make_no_forecast_surer() -> None:
    """Five instruments that say and do the same on every day are worth one of them."""
    rng = np.random.default_rng(7)
    labels = (rng.random(500) < 0.3).astype(np.int8)
    logits, days = labels + rng.normal(size=500), np.arange(500)
    alone = scores(logits, labels, 0.3, days)
    copies = scores(np.tile(logits, 5), np.tile(labels, 5), 0.3, np.tile(days, 5))
    assert scores(logits, labels, 0.3) == alone
    assert (copies.auc, copies.auc_se) == pytest.approx((alone.auc, alone.auc_se), rel=0.01)
    assert (copies.loss, copies.loss_se) == pytest.approx((alone.loss, alone.loss_se), rel=0.01)
