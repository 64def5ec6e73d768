from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, kurtosis

from research.data.bars import bars_digest, check_bars
from research.data.garch import SP500
from research.data.sources import Request, source_named
from research.data.synthetic import FIRST_OPEN, SYMBOL, Market, fetch, market_bars, market_from_settings, parse_settings
from research.errors import InputError

SIGNAL = Market(bars=100_000, signal=0.3, lag=20, seed=1)


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return market_bars(SIGNAL)


@pytest.fixture(scope="module")
def moves(bars: pd.DataFrame) -> pd.DataFrame:
    """Per day but the first: log return, its volatility and drift, and the innovation that is left."""
    move = np.log(bars["close"]).diff()
    found = pd.DataFrame({"move": move, "sigma": bars["sigma_next"].shift(), "drift": bars["drift_next"].shift()})
    found["surprise"] = found["move"] - found["drift"]
    found["z"] = found["surprise"] / found["sigma"]
    return found.iloc[1:]


def test_bars_keep_the_contract(bars: pd.DataFrame):
    check_bars(bars, SYMBOL)
    assert bars["open"].iloc[0] == FIRST_OPEN
    assert (bars["open"].iloc[1:].to_numpy() == bars["close"].iloc[:-1].to_numpy()).all()
    assert (bars.index.dayofweek < 5).all()
    assert len(bars) == SIGNAL.bars


def test_the_same_settings_give_the_same_bars_and_fewer_give_a_prefix(bars: pd.DataFrame):
    for days in (2, 1023, 54_321):
        shorter = market_bars(Market(bars=days, signal=0.3, lag=20, seed=1, start=SIGNAL.start))
        pd.testing.assert_frame_equal(shorter, bars.iloc[:days], check_exact=True)


@pytest.mark.parametrize("other", [{"seed": 2}, {"signal": 0.2}, {"lag": 5}, {"start": date(1950, 1, 2)}])
def test_every_setting_changes_the_bars(other: dict[str, object], bars: pd.DataFrame):
    changed = Market(**{"bars": 1000, "signal": 0.3, "lag": 20, "seed": 1, **other})
    assert bars_digest({SYMBOL: market_bars(changed)}) != bars_digest({SYMBOL: bars.iloc[:1000]})


@pytest.mark.parametrize("days", [2, 20_000, 200_000])
def test_a_market_ends_with_the_test_days_of_the_default_split(days: int):
    assert market_bars(Market(bars=days)).index[-1].date() == date(2018, 12, 31)


def test_a_market_begins_on_the_requested_day():
    assert market_bars(Market(bars=5, start=date(1950, 1, 28))).index[0].date() == date(1950, 1, 30)


def test_a_million_days_keep_their_dates_prices_and_digest(tmp_path: Path):
    bars = market_bars(Market(bars=1_000_000))
    check_bars(bars, SYMBOL)
    assert f"{bars.index[0]:%Y-%m-%d} .. {bars.index[-1]:%Y-%m-%d}" == "1000-01-01 .. 4833-01-25"
    far = bars.iloc[-50_000:]
    far.reset_index().to_parquet(tmp_path / "bars.parquet", index=False)
    read = pd.read_parquet(tmp_path / "bars.parquet").set_index("date")
    assert bars_digest({SYMBOL: read}) == bars_digest({SYMBOL: far})
    pd.testing.assert_frame_equal(read, far, check_freq=False)


def test_innovations_are_standard_normal_and_independent(moves: pd.DataFrame):
    z = moves["z"].to_numpy()
    assert kstest(z, "norm").pvalue > 0.001
    for values in (z, np.square(z)):
        assert all(abs(np.corrcoef(values[age:], values[:-age])[0, 1]) < 4 / np.sqrt(len(z)) for age in (1, 19, 20, 21))


def test_returns_have_fat_tails_and_volatility_rises_after_falls(moves: pd.DataFrame):
    assert kurtosis(moves["z"]) == pytest.approx(0, abs=0.1)
    assert kurtosis(moves["move"]) > 2
    later = moves["move"].abs().shift(-1)
    assert later[moves["z"] < -1].mean() > 1.15 * later[moves["z"] > 1].mean()


def test_the_volatility_is_that_of_the_fitted_index(sp500: pd.DataFrame, moves: pd.DataFrame):
    assert np.square(moves["sigma"]).mean() == pytest.approx(SP500.mean_variance, rel=0.15)
    assert np.square(np.log(sp500["close"]).diff()).mean() == pytest.approx(SP500.mean_variance, rel=0.2)


@pytest.mark.parametrize(("extreme", "sign"), [("high", 1.0), ("low", -1.0)])
def test_high_and_low_have_the_law_of_the_extremes_of_a_brownian_bridge(
    bars: pd.DataFrame, moves: pd.DataFrame, extreme: str, sign: float
):
    reached = sign * np.log(bars[extreme] / bars["open"]).iloc[1:]
    beyond = np.exp(-2 * reached * (reached - sign * moves["move"]) / np.square(moves["sigma"]))
    assert kstest(beyond, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(beyond, moves["sigma"])[0, 1]) < 4 / np.sqrt(len(beyond))
    assert abs(np.corrcoef(beyond, moves["move"])[0, 1]) < 4 / np.sqrt(len(beyond))


def test_the_squared_range_is_too_large_by_what_the_module_says():
    bars = market_bars(Market(bars=500_000))
    log_range = np.log(bars["high"] / bars["low"]).iloc[1:] / bars["sigma_next"].shift().iloc[1:]
    assert np.square(log_range).mean() / (4 * np.log(2)) == pytest.approx(1.027, abs=0.005)


def test_the_drift_repeats_the_innovation_of_its_lag(moves: pd.DataFrame):
    expected = 0.3 * moves["surprise"].shift(20)
    np.testing.assert_allclose(moves["drift"].iloc[20:], expected.iloc[20:], rtol=1e-8, atol=1e-12)


def test_a_signal_makes_no_long_run_trend():
    bars = market_bars(Market(bars=1_000_000, signal=1.0))
    drift = bars["drift_next"]
    assert abs(drift.mean()) < 4 * drift.std() / math.sqrt(len(bars))
    assert 1e-15 < bars["close"].iloc[-1] < 1e21


def test_only_the_return_of_the_lag_is_correlated_with_tomorrow(moves: pd.DataFrame):
    move = moves["move"].to_numpy()
    # Of an MA process: 0.3 over the variance 1 + 0.3^2.
    assert np.corrcoef(move[20:], move[:-20])[0, 1] == pytest.approx(0.3 / 1.09, abs=0.03)
    newest = [np.corrcoef(move[age:], move[:-age])[0, 1] for age in range(1, 20)]
    assert np.max(np.abs(newest)) < 0.03


def test_without_a_signal_there_is_no_drift():
    assert not market_bars(Market(bars=1000, signal=0.0))["drift_next"].any()


def test_volume_is_larger_on_days_with_a_large_move(bars: pd.DataFrame, moves: pd.DataFrame):
    logs = np.log(bars["volume"].iloc[1:])
    assert np.corrcoef(logs, moves["move"].abs())[0, 1] > 0.3
    assert np.corrcoef(logs.iloc[1:], moves["z"].iloc[1:])[0, 1] == pytest.approx(0, abs=0.02)


def test_a_request_has_every_setting_and_can_be_repeated():
    asked = Request(source="synthetic", settings=parse_settings("bars=500,signal=0.3,seed=4"))
    delivered = source_named("synthetic")(asked)
    assert delivered.request == {"bars": "500", "signal": "0.3", "lag": "20", "seed": "4", "start": "2017-01-31"}
    assert market_from_settings(delivered.request) == Market(bars=500, signal=0.3, seed=4)
    again = fetch(Request(source="synthetic", settings=delivered.request))
    assert bars_digest(again.bars) == bars_digest(delivered.bars)
    assert delivered.instruments[SYMBOL].calendar == ""


def test_no_settings_are_the_default_market():
    assert parse_settings("") == {}
    assert market_from_settings({}) == Market()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("bars=ten", "DATA=synthetic:bars=ten: give a whole number."),
        ("bars=1", "DATA=synthetic:bars=1: give 2 or more."),
        (
            "bars=3000000",
            "DATA=synthetic:bars=3000000: give at most 2,347,987, which end in the year 9999.",
        ),
        ("signal=strong", "DATA=synthetic:signal=strong: give a number."),
        ("signal=-1", "DATA=synthetic:signal=-1.0: give a number from 0 (none) to 5, for example 0.3."),
        ("signal=nan", "DATA=synthetic:signal=nan: give a number from 0 (none) to 5, for example 0.3."),
        ("lag=0", "DATA=synthetic:lag=0: give 1 to 1000 days."),
        ("seed=-1", "DATA=synthetic:seed=-1: give 0 or more."),
        ("start=1950", "DATA=synthetic:start=1950: give a date like 1950-01-31."),
        ("start=0999-01-01", "DATA=synthetic:start=0999-01-01: give 1000-01-01 or later."),
        ("days=5", "DATA=synthetic:days=5: no such setting; give one of bars, signal, lag, seed, start."),
        ("bars", "DATA=synthetic:bars: write it as name=value, for example signal=0.3."),
        ("lag=", "DATA=synthetic:lag=: write it as name=value, for example signal=0.3."),
        ("lag=5,lag=6", "DATA=synthetic:lag=6: give each setting once."),
    ],
)
def test_a_bad_setting_is_refused_by_name_and_fix(text: str, sentence: str):
    with pytest.raises(InputError) as refused:
        parse_settings(text)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("asked", "field"),
    [({"symbols": ("SPY",)}, "SYMBOLS"), ({"start": date(2000, 1, 3)}, "START"), ({"end": date(2000, 1, 3)}, "END")],
)
def test_what_a_synthetic_market_cannot_give_is_refused(asked: dict[str, object], field: str):
    with pytest.raises(InputError, match=f"^{field}: a synthetic market has only the symbol SYNTHETIC"):
        fetch(Request(source="synthetic", **asked))
