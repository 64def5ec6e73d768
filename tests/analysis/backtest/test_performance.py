"""Measures against published examples and another library's values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.backtest.performance import (
    expected_best_sharpe,
    max_drawdown,
    performance,
    probabilistic_sharpe,
    probability_above,
    sharpe,
    sharpe_interval,
)
from analysis.backtest.trades import YEAR, EquityCurve

RETURNS = np.random.default_rng(0).normal(5e-4, 0.01, 877)


def account(returns: np.ndarray) -> EquityCurve:
    days = pd.bdate_range("2012-01-02", periods=len(returns) + 1)
    return EquityCurve(days=days, equity=np.append(1, np.cumprod(1 + returns)), exposure=1.0)


@pytest.mark.parametrize(
    ("trials", "skewness", "kurt", "expected"), [(100, -3, 10, 0.9004), (46, -3, 10, 0.9505), (88, 0, 3, 0.9505)]
)
def test_the_example_of_the_paper_on_the_deflated_sharpe_ratio(
    trials: int, skewness: float, kurt: float, expected: float
) -> None:
    """Bailey & Lopez de Prado (2014), "A numerical example": annual 2.5 in five years of 250 days, variance of trials 1/2."""
    benchmark = expected_best_sharpe(trials, np.sqrt(1 / 2 / 250))
    found = probability_above(2.5 / np.sqrt(250), benchmark, days=1250, skewness=skewness, kurt=kurt)
    assert found == pytest.approx(expected, abs=1e-4)
    if trials == 100:
        assert benchmark == pytest.approx(0.1132, abs=1e-4)


def test_the_best_of_many_without_skill_is_as_good_as_expected() -> None:
    drawn = np.random.default_rng(1).normal(0, 0.02, (4000, 50)).max(axis=1).mean()
    assert expected_best_sharpe(50, 0.02) == pytest.approx(drawn, rel=0.02)
    assert expected_best_sharpe(1, 0.02) == 0


def test_measures_are_those_of_quantstats() -> None:
    """Values of quantstats 0.0.86 for the same returns; it takes the unbiased moments for the probabilistic ratio."""
    found = performance(account(RETURNS), 1)
    assert found.sharpe == pytest.approx(0.442970818591)
    assert found.drawdown == pytest.approx(-0.174468814889)
    assert found.annual == pytest.approx(0.058470109616)
    assert found.volatility == pytest.approx(0.155606366241)
    assert found.probabilistic_sharpe == pytest.approx(0.7952306774, abs=1e-4)


def test_the_interval_holds_the_ratio_and_narrows_with_the_days() -> None:
    low, high = sharpe_interval(RETURNS, 1)
    assert low < sharpe(RETURNS) * np.sqrt(YEAR) < high
    shorter = sharpe_interval(RETURNS[:220], 1)
    assert shorter[1] - shorter[0] > 1.5 * (high - low)
    # Trades of 60 days overlap: no block is shorter, whatever the returns look like.
    assert sharpe_interval(RETURNS, 60) != (low, high)


def test_an_account_that_never_moves_has_no_ratio() -> None:
    found = performance(account(np.zeros(300)), 1)
    assert (found.total, found.volatility, found.drawdown) == (0, 0, 0)
    assert all(np.isnan(value) for value in (found.sharpe, found.low, found.high, found.probabilistic_sharpe))


def test_a_market_without_weekends_has_a_longer_year() -> None:
    one = account(RETURNS)
    every_day = EquityCurve(days=pd.date_range("2012-01-01", periods=len(RETURNS) + 1), equity=one.equity, exposure=1.0)
    shorter, longer = performance(one, 1), performance(every_day, 1)
    ratio = np.sqrt(365.25 / 252)
    assert longer.sharpe == pytest.approx(shorter.sharpe * ratio)
    assert longer.high == pytest.approx(shorter.high * ratio)
    assert longer.volatility == pytest.approx(shorter.volatility * ratio)
    assert 1 + longer.annual == pytest.approx((1 + shorter.annual) ** (ratio**2))


def test_a_single_trade_is_measured_too() -> None:
    returns = np.zeros(300)
    returns[40] = 0.01
    found = performance(account(returns), 5)
    assert np.isfinite([found.sharpe, found.low, found.high, found.probabilistic_sharpe]).all()


def test_a_loss_is_counted_from_the_last_high() -> None:
    assert max_drawdown(np.array([1, 2, 1.5, 1.8, 1.0, 3])) == pytest.approx(-0.5)
    assert probabilistic_sharpe(-RETURNS) == pytest.approx(1 - probabilistic_sharpe(RETURNS), abs=1e-3)
