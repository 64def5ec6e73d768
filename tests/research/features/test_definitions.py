"""Columns of the widest tier against definitions written another way: loops, pandas, TA-Lib, SciPy."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import talib
from scipy import stats

from research.features.feature_sets import build, feature_set_named
from tests.conftest import random_bars

DAYS = 400


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return random_bars(21, DAYS, volatility=0.02)


@pytest.fixture(scope="module")
def index() -> pd.Series:
    return random_bars(22, DAYS)["close"]


@pytest.fixture(scope="module")
def implied() -> pd.Series:
    return random_bars(23, DAYS)["close"] / 5


@pytest.fixture(scope="module")
def found(bars: pd.DataFrame, index: pd.Series, implied: pd.Series) -> pd.DataFrame:
    others = {
        name: pd.DataFrame({"close": values.to_numpy()}, index=bars.index)
        for name, values in {"I": index, "X": implied}.items()
    }
    matrix = build(feature_set_named("s100", index="I", volatility_index="X"), bars, others)
    return pd.DataFrame(matrix.values, index=matrix.days, columns=matrix.columns)


def assert_equal(found: pd.DataFrame, expected: dict[str, object]) -> None:
    for column, values in expected.items():
        np.testing.assert_allclose(
            found[column].to_numpy()[260:], np.asarray(values, dtype=float)[260:], rtol=1e-8, atol=1e-10, err_msg=column
        )


def test_returns(bars: pd.DataFrame, found: pd.DataFrame):
    close, opened = bars["close"], bars["open"]
    r = np.log(close).diff()
    usual = np.sqrt((r**2).rolling(20).mean()).shift()
    overnight = np.log(opened / close.shift())
    expected = {f"return_{n}": np.log(close / close.shift(n)) for n in (2, 3, 5, 10, 20, 60, 120)}
    expected |= {"overnight_return": overnight, "gap": overnight / usual, "shock": r / usual}
    expected["close_location"] = ((close - bars["low"]) - (bars["high"] - close)) / (bars["high"] - bars["low"])
    assert_equal(found, expected)


def test_moves_beyond_ten_deviations_are_ten():
    frame = random_bars(3, 320)
    frame.iloc[300:, :4] *= 3
    shock = found_alone(frame)["shock"]
    assert shock.iloc[300] == 10
    assert abs(shock.iloc[299]) < 5


def found_alone(frame: pd.DataFrame) -> pd.DataFrame:
    matrix = build(feature_set_named("s100"), frame)
    return pd.DataFrame(matrix.values, index=matrix.days, columns=matrix.columns)


def test_volatilities(bars: pd.DataFrame, found: pd.DataFrame):
    r = np.log(bars["close"]).diff()

    def log_rms(values: pd.Series, length: int) -> pd.Series:
        return 0.5 * np.log((values**2).rolling(length).mean())

    ewma = 0.5 * np.log((r**2).ewm(alpha=0.06).mean())
    smooth = math.pi / 2 * (r.abs() * r.abs().shift()).rolling(20).mean() / (r**2).rolling(20).mean()
    assert_equal(
        found,
        {
            **{f"realised_volatility_{n}": log_rms(r, n) for n in (5, 20, 60)},
            "volatility_ratio_10_60": log_rms(r, 10) - log_rms(r, 60),
            "volatility_ratio_20_120": log_rms(r, 20) - log_rms(r, 120),
            "ewma_volatility": ewma,
            "downside_volatility_20": log_rms(r.clip(upper=0), 20),
            "upside_volatility_20": log_rms(r.clip(lower=0), 20),
            "jump_share_20": (1 - smooth).clip(lower=0),
            "volatility_of_volatility_20": ewma.diff().rolling(20).std(ddof=0),
        },
    )


def test_range_volatilities(bars: pd.DataFrame, found: pd.DataFrame):
    expected = {
        name: np.full(DAYS, np.nan) for name in ("parkinson_20", "garman_klass_20", "rogers_satchell_20", "yang_zhang_20")
    }
    logs = np.log(bars)
    for day in range(260, DAYS):
        window = logs.iloc[day - 19 : day + 1]
        up, down, move = (window[name] - window["open"] for name in ("high", "low", "close"))
        inside = (up * (up - move) + down * (down - move)).mean()
        overnight = (window["open"] - logs["close"].shift().iloc[day - 19 : day + 1]).var(ddof=1)
        weight = 0.34 / (1.34 + 21 / 19)
        variances = {
            "parkinson_20": ((up - down) ** 2).mean() / (4 * math.log(2)),
            "garman_klass_20": (0.5 * (up - down) ** 2 - (2 * math.log(2) - 1) * move**2).mean(),
            "rogers_satchell_20": inside,
            "yang_zhang_20": overnight + weight * move.var(ddof=1) + (1 - weight) * inside,
        }
        for name, variance in variances.items():
            expected[name][day] = 0.5 * math.log(variance)
    expected["log_range"] = np.log(logs["high"] - logs["low"]).to_numpy()
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    expected["atr_5"] = np.log(talib.ATR(high, low, close, 5) / close)
    assert_equal(found, expected)


def test_drawdowns(bars: pd.DataFrame, found: pd.DataFrame):
    close = bars["close"]
    assert_equal(
        found,
        {
            **{f"drawdown_{n}": np.log(close / close.rolling(n).max()) for n in (20, 120)},
            **{f"run_up_{n}": np.log(close / close.rolling(n).min()) for n in (20, 120)},
            "since_high_60": close.rolling(60).apply(lambda window: 59 - window.to_numpy().argmax()) / 60,
            "since_low_60": close.rolling(60).apply(lambda window: 59 - window.to_numpy().argmin()) / 60,
        },
    )


def test_oscillators_are_those_of_ta_lib(bars: pd.DataFrame, found: pd.DataFrame):
    high, low, close, volume = (bars[name].to_numpy() for name in ("high", "low", "close", "volume"))
    up, down = talib.PLUS_DI(high, low, close, 14), talib.MINUS_DI(high, low, close, 14)
    assert_equal(
        found,
        {
            "cci_20": talib.CCI(high, low, close, 20) / 100,
            "williams_r_14": talib.WILLR(high, low, close, 14) / 100,
            "mfi_14": talib.MFI(high, low, close, volume, 14) / 100,
            "ultimate": talib.ULTOSC(high, low, close, 7, 14, 28) / 100,
            "aroon_25": talib.AROONOSC(high, low, 25) / 100,
            "trix_15": talib.TRIX(close, 15),
            "di_balance_14": (up - down) / (up + down),
        },
    )


def test_ppo_is_the_relative_distance_of_two_means_to_its_own_mean(bars: pd.DataFrame, found: pd.DataFrame):
    fast, slow = (bars["close"].ewm(span=length, adjust=False).mean() for length in (12, 26))
    ppo = fast / slow - 1
    expected = ppo - ppo.ewm(span=9, adjust=False).mean()
    np.testing.assert_allclose(found["ppo_histogram"][300:], expected[300:], rtol=0, atol=1e-8)


def test_trends_are_least_squares_lines(bars: pd.DataFrame, found: pd.DataFrame):
    price = np.log(bars["close"].to_numpy())
    for length in (20, 60):
        for day in (260, 317, DAYS - 1):
            line = stats.linregress(np.arange(length), price[day - length + 1 : day + 1])
            assert found[f"trend_slope_{length}"].iloc[day] == pytest.approx(length * line.slope)
            if length == 60:
                assert found["trend_r2_60"].iloc[day] == pytest.approx(line.rvalue**2)


def test_volumes(bars: pd.DataFrame, found: pd.DataFrame):
    close, volume = bars["close"], bars["volume"]
    r = np.log(close).diff()
    turnover = close * volume
    illiquidity = {n: r.abs().rolling(n).mean() / turnover.rolling(n).mean() for n in (20, 120)}
    location = (2 * close - bars["high"] - bars["low"]) / (bars["high"] - bars["low"])
    assert_equal(
        found,
        {
            "relative_volume_5": np.log((volume / volume.rolling(5).mean()).clip(lower=0.01)),
            "volume_ratio_20_120": np.log(volume.rolling(20).mean() / volume.rolling(120).mean()),
            "illiquidity_20": np.log(illiquidity[20] / illiquidity[120]),
            "chaikin_flow_20": (location * volume).rolling(20).sum() / volume.rolling(20).sum(),
            "volume_return_correlation_60": (volume / volume.rolling(60).mean()).rolling(60).corr(r),
        },
    )


def test_moments(bars: pd.DataFrame, found: pd.DataFrame):
    r = np.log(bars["close"]).diff()
    assert_equal(
        found,
        {
            "skewness_60": r.rolling(60).apply(stats.skew, raw=True),
            "kurtosis_60": r.rolling(60).apply(stats.kurtosis, raw=True),
            "autocorrelation_60": r.rolling(60).corr(r.shift()),
            "absolute_autocorrelation_60": r.abs().rolling(60).corr(r.abs().shift()),
            "variance_ratio_60": r.rolling(60).apply(variance_ratio, raw=True) - 1,
            "up_share_20": (r > 0).rolling(20).mean(),
        },
    )


def variance_ratio(returns: np.ndarray, q: int = 5) -> float:
    """Lo & MacKinlay 1988, equations 12 and 13 for overlapping returns."""
    n, mean = len(returns), returns.mean()
    price = np.concatenate([[0.0], np.cumsum(returns)])
    daily = ((returns - mean) ** 2).sum() / (n - 1)
    longer = sum((price[k] - price[k - q] - q * mean) ** 2 for k in range(q, n + 1))
    return longer / (q * (n - q + 1) * (1 - q / n)) / daily


def test_cross_asset_columns(bars: pd.DataFrame, index: pd.Series, implied: pd.Series, found: pd.DataFrame):
    close, index = bars["close"], pd.Series(index.to_numpy(), bars.index)
    known = pd.Series(np.log(implied.to_numpy()), bars.index).shift()
    r, of_index = np.log(close).diff(), np.log(index).diff()
    level = np.log(close / index)
    beta = r.rolling(60).cov(of_index) / of_index.rolling(60).var()
    realised = np.sqrt((r**2).rolling(21).mean() * 252)
    assert_equal(
        found,
        {
            "index_level_60": level - level.rolling(60).mean(),
            **{f"index_return_{n}": np.log(index / index.shift(n)) for n in (1, 5, 20)},
            "index_beta_60": beta,
            "index_correlation_60": r.rolling(60).corr(of_index),
            "relative_strength_20": np.log(close / close.shift(20)) - beta * np.log(index / index.shift(20)),
            "implied_volatility": known,
            "implied_change_1": known.diff(),
            "implied_change_5": known.diff(5),
            "implied_score_60": (known - known.rolling(60).mean()) / known.rolling(60).std(ddof=0),
            "implied_percentile_252": known.rolling(252).rank() / 252,
            "implied_trend_20": known - known.rolling(20).mean(),
            "implied_over_realised": np.log(np.exp(known) / 100 / realised),
        },
    )


def test_every_added_column_is_checked_against_a_definition(found: pd.DataFrame):
    """A new column needs a definition here; calendar columns have a file of their own."""
    from pathlib import Path

    text = Path(__file__).read_text() + Path(__file__).with_name("test_calendar.py").read_text()
    lengths = ("return_", "realised_volatility_", "drawdown_", "run_up_", "trend_slope_", "index_return_")
    added = [column for column in found.columns[25:] if not column.startswith((*lengths, "weekday_", "month_"))]
    assert [column for column in added if f'"{column}"' not in text] == []
