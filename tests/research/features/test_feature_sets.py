from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import InputError
from research.features import indicators
from research.features.feature import Bars
from research.features.feature_sets import A25, A25S, WHOLE_SETS, build, feature_set_named
from research.features.reference_columns import VOLUME_FLOOR
from tests.conftest import random_bars

A25_COLUMNS = [
    *("open", "high", "low", "close", "volume"),
    *("dema_9", "dema_10", "dema_20", "dema_25", "dema_90"),
    *("sma_12", "sma_50", "sma_100", "sma_200"),
    *("rsi_14", "rsi_14_weekly", "stoch_rsi", "stoch_rsi_weekly"),
    *("macd", "obv", "adosc", "atr_14", "adx_14", "percent_b", "vwap_20"),
]
FIRST_ROW = 199
SETTLED = slice(2500, None)
"""Rows on which exponential means no longer depend on how they were started."""

both_sets = pytest.mark.parametrize("name", ["a25", "a25s"])
seeds = st.integers(0, 100_000)


def table(name: str, bars: pd.DataFrame) -> pd.DataFrame:
    matrix = build(feature_set_named(name), bars)
    return pd.DataFrame(matrix.values, index=matrix.days, columns=matrix.columns)


def scaled(bars: pd.DataFrame, prices: float, volume: float) -> pd.DataFrame:
    return bars * np.array([prices, prices, prices, prices, volume])


@both_sets
def test_the_columns_are_the_reference_ones_in_order(name: str):
    assert feature_set_named(name).columns == A25_COLUMNS
    assert len(set(A25_COLUMNS)) == 25


@both_sets
@pytest.mark.parametrize("symbol", ["^GSPC", "^IXIC"])
def test_the_first_complete_row_is_199(bundled_bars: dict[str, pd.DataFrame], name: str, symbol: str):
    matrix = build(feature_set_named(name), bundled_bars[symbol])
    assert matrix.first_row == FIRST_ROW
    assert np.isnan(matrix.values[FIRST_ROW - 1]).any()
    assert np.isfinite(matrix.values[FIRST_ROW:]).all()


@both_sets
@given(seed=seeds, days=st.integers(2, 420), known=st.integers(1, 420))
@settings(deadline=None, max_examples=60)
def test_no_feature_changes_when_later_bars_arrive(name: str, seed: int, days: int, known: int):
    frame = random_bars(seed, days)
    full, prefix = Bars.of(frame), Bars.of(frame[: min(known, days)])
    looking_ahead = [
        feature.name
        for feature in feature_set_named(name).features
        if not np.array_equal(feature.compute(prefix), feature.compute(full)[: len(prefix.days)], equal_nan=True)
    ]
    assert looking_ahead == []


@both_sets
@given(known=st.integers(FIRST_ROW + 1, 5031))
@settings(deadline=None, max_examples=40)
def test_real_features_do_not_change_when_later_bars_arrive(sp500: pd.DataFrame, name: str, known: int):
    full, prefix = build(feature_set_named(name), sp500), build(feature_set_named(name), sp500[:known])
    np.testing.assert_array_equal(prefix.values, full.values[:known])
    assert prefix.first_row == full.first_row


def test_a_weekly_value_is_used_from_the_session_after_its_friday():
    days = pd.bdate_range("2024-03-18", "2024-04-09").drop("2024-03-29")  # Good Friday
    close = np.arange(1.0, len(days) + 1)
    known = pd.Series(indicators.weekly(close, days, lambda weekly_closes: weekly_closes), index=days)
    closes = pd.Series(close, index=days)
    assert known["2024-03-18":"2024-03-22"].isna().all()
    assert set(known["2024-03-25":"2024-03-28"]) == {closes["2024-03-22"]}
    assert set(known["2024-04-01":"2024-04-05"]) == {closes["2024-03-28"]}
    assert set(known["2024-04-08":"2024-04-09"]) == {closes["2024-04-05"]}


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_weekly_features_are_those_of_the_last_finished_week(seed: int):
    frame = random_bars(seed, 300)
    weekly_closes = frame["close"].resample("W-FRI").last().dropna()
    for name, indicator in {"rsi_14": wilder_rsi, "stoch_rsi": lambda closes: stochastic(wilder_rsi(closes))}.items():
        of_week = indicator(weekly_closes).rename("value").rename_axis("date").reset_index()
        finished = pd.merge_asof(frame.index.to_frame(index=False), of_week, on="date", allow_exact_matches=False)["value"]
        np.testing.assert_allclose(table("a25", frame)[f"{name}_weekly"], finished, rtol=0, atol=1e-6)


@pytest.mark.parametrize("column", ["rsi_14_weekly", "stoch_rsi_weekly"])
def test_on_a_friday_the_value_is_still_that_of_the_week_before(sp500: pd.DataFrame, column: str):
    values = table("a25", sp500)[column].iloc[FIRST_ROW:]
    week = values.index.to_period("W-FRI")
    new_week = week[1:] != week[:-1]
    changes = np.diff(values.to_numpy()) != 0
    assert not changes[~new_week].any()
    assert changes[new_week].mean() > 0.7


def wilder(values: pd.Series, length: int = 14) -> pd.Series:
    """Mean of the first `length` values, then 1/length of every new one."""
    start = values.first_valid_index()
    known = values[start:].copy()
    seeded = pd.concat([pd.Series([known.iloc[:length].mean()], index=[known.index[length - 1]]), known.iloc[length:]])
    return seeded.ewm(alpha=1 / length, adjust=False).mean().reindex(values.index)


def wilder_rsi(close: pd.Series) -> pd.Series:
    change = close.diff()
    up, down = wilder(change.clip(lower=0)), wilder(-change.clip(upper=0))
    return 100 * up / (up + down)


def stochastic(values: pd.Series) -> pd.Series:
    lowest, highest = values.rolling(5).min(), values.rolling(5).max()
    return (100 * (values - lowest) / (highest - lowest)).rolling(3).mean()


def reference_a25(bars: pd.DataFrame) -> pd.DataFrame:
    """Every raw daily column from its textbook formula."""
    high, low, close, volume = (bars[name] for name in ("high", "low", "close", "volume"))

    def ema(values: pd.Series, length: int) -> pd.Series:
        return values.ewm(span=length, adjust=False).mean()

    def dema(length: int) -> pd.Series:
        return 2 * ema(close, length) - ema(ema(close, length), length)

    true_range = pd.concat([high - low, (high - close.shift()).abs(), (low - close.shift()).abs()], axis=1).max(axis=1)
    up, down = high.diff(), -low.diff()
    plus = wilder(up.where((up > down) & (up > 0), 0.0)) / wilder(true_range)
    minus = wilder(down.where((down > up) & (down > 0), 0.0)) / wilder(true_range)
    spread = (high - low).where(high > low)
    accumulated = (((2 * close - high - low) / spread).fillna(0.0) * volume).cumsum()
    middle, deviation = close.rolling(20).mean(), close.rolling(20).std(ddof=0)
    columns = {
        **{name: bars[name] for name in ("open", "high", "low", "close", "volume")},
        **{f"dema_{length}": dema(length) for length in (9, 10, 20, 25, 90)},
        **{f"sma_{length}": close.rolling(length).mean() for length in (12, 50, 100, 200)},
        "rsi_14": wilder_rsi(close),
        "stoch_rsi": stochastic(wilder_rsi(close)),
        "macd": ema(close, 12) - ema(close, 26),
        "obv": volume.iloc[0] + (np.sign(close.diff()) * volume).cumsum(),
        "adosc": ema(accumulated, 3) - ema(accumulated, 10),
        "atr_14": wilder(true_range.iloc[1:]).reindex(bars.index),
        "adx_14": wilder(100 * (plus - minus).abs() / (plus + minus)),
        "percent_b": (close - (middle - 2 * deviation)) / (4 * deviation),
        "vwap_20": (close * volume).rolling(20).sum() / volume.rolling(20).sum(),
    }
    return pd.DataFrame(columns)


def reference_a25s(bars: pd.DataFrame) -> pd.DataFrame:
    """The stationary form of every raw column, written out."""
    raw, close, volume = reference_a25(bars), bars["close"], bars["volume"]
    to_close = ["open", "high", "low", "atr_14", "vwap_20", *(name for name in raw if name.startswith(("dema_", "sma_")))]
    forms = {
        **{name: np.log(raw[name] / close) for name in to_close},
        **{name: raw[name] / 100 for name in ("rsi_14", "stoch_rsi", "adx_14")},
        "close": np.log(close).diff(),
        "volume": np.log((volume / volume.rolling(60).mean()).clip(lower=0.01)),
        "macd": raw["macd"] / close,
        "obv": raw["obv"].diff(20) / volume.rolling(20).sum(),
        "adosc": raw["adosc"] / volume.rolling(20).mean(),
        "percent_b": raw["percent_b"],
    }
    return pd.DataFrame(forms)


@pytest.mark.parametrize(("name", "reference"), [("a25", reference_a25), ("a25s", reference_a25s)])
def test_every_daily_column_is_its_textbook_formula(sp500: pd.DataFrame, name: str, reference: object):
    expected, found = reference(sp500)[SETTLED], table(name, sp500)[SETTLED]
    assert set(found) - set(expected) == {"rsi_14_weekly", "stoch_rsi_weekly"}
    for column in expected:
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-6, atol=1e-8, err_msg=column)


def test_the_weekly_columns_of_the_stationary_set_are_shares(sp500: pd.DataFrame):
    raw, stationary = table("a25", sp500), table("a25s", sp500)
    for column in ("rsi_14_weekly", "stoch_rsi_weekly"):
        np.testing.assert_allclose(stationary[column], raw[column] / 100)


@given(seed=seeds, prices=st.floats(0.1, 1000), volume=st.floats(0.01, 1000))
@settings(deadline=None, max_examples=60)
def test_the_stationary_set_does_not_see_the_units(seed: int, prices: float, volume: float):
    frame = random_bars(seed, 320)
    one, other = build(A25S, frame), build(A25S, scaled(frame, prices, volume))
    np.testing.assert_allclose(other.values, one.values, rtol=0, atol=1e-8)


@pytest.mark.parametrize("symbol", ["^GSPC", "^IXIC"])
def test_the_stationary_set_of_real_bars_does_not_see_the_units(bundled_bars: dict[str, pd.DataFrame], symbol: str):
    frame = bundled_bars[symbol][["open", "high", "low", "close", "volume"]]
    one, other = build(A25S, frame), build(A25S, scaled(frame, 10, 100))
    np.testing.assert_allclose(other.values, one.values, rtol=0, atol=1e-8)


def test_the_raw_set_sees_the_units(sp500: pd.DataFrame):
    frame = sp500[["open", "high", "low", "close", "volume"]]
    one, other = table("a25", frame).iloc[-1], table("a25", scaled(frame, 10, 100)).iloc[-1]
    assert other["close"] == pytest.approx(10 * one["close"])
    assert other["obv"] == pytest.approx(100 * one["obv"])


def test_a_day_without_volume_has_the_floor_of_the_volume_feature():
    frame = random_bars(1, 300)
    frame.iloc[250, frame.columns.get_loc("volume")] = 0.0
    assert table("a25s", frame)["volume"].iloc[250] == pytest.approx(np.log(VOLUME_FLOOR))


def test_the_nasdaq_sessions_without_volume_have_features(bundled_bars: dict[str, pd.DataFrame]):
    volumes = table("a25s", bundled_bars["^IXIC"])["volume"]
    assert volumes[["2015-05-12", "2018-01-09"]].tolist() == pytest.approx([np.log(VOLUME_FLOOR)] * 2)


@pytest.mark.parametrize("price", [0.1, 100.1, 2345.67])
def test_percent_b_of_flat_prices_is_one_half(price: float):
    flat = indicators.percent_b(np.full(60, price))
    assert np.isnan(flat[:19]).all()
    np.testing.assert_allclose(flat[19:], 0.5, atol=1e-3)


@both_sets
def test_a_flat_stretch_has_features(name: str):
    frame = random_bars(1, 320)
    frame.iloc[220:262, :4] = frame["close"].iloc[219]
    found = table(name, frame)
    assert np.isfinite(found.iloc[FIRST_ROW:]).all(axis=None)
    np.testing.assert_allclose(found["percent_b"].iloc[240:262], 0.5, atol=1e-3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_prices_that_never_move_are_refused_without_a_crash():
    frame = random_bars(1, 300)
    frame.iloc[:, :4] = 100.0
    with pytest.raises(InputError):
        build(A25S, frame)


def test_months_without_volume_are_refused_by_feature_and_day():
    frame = random_bars(1, 320)
    frame.iloc[220:300, frame.columns.get_loc("volume")] = 0.0
    with pytest.raises(InputError, match=f"FEATURES=a25s: obv is not finite on {frame.index[239]:%Y-%m-%d}"):
        build(A25S, frame)


def test_vwap_of_days_without_volume_is_the_plain_mean():
    close = random_bars(1, 60)["close"].to_numpy()
    np.testing.assert_allclose(indicators.vwap(close, np.zeros(60))[19:], pd.Series(close).rolling(20).mean()[19:])


@both_sets
@pytest.mark.parametrize("days", [1, 2, FIRST_ROW])
def test_a_history_shorter_than_the_warm_up_is_refused(name: str, days: int):
    with pytest.raises(InputError, match=f"FEATURES={name}: {days} days are too few"):
        build(feature_set_named(name), random_bars(1, days))


@both_sets
def test_a_history_of_exactly_the_warm_up_has_one_row(name: str):
    assert build(feature_set_named(name), random_bars(1, FIRST_ROW + 1)).first_row == FIRST_ROW


def test_an_unknown_feature_set_lists_the_known_ones():
    with pytest.raises(InputError, match="FEATURES=a26: no such feature set; give a25, a25s, s50"):
        feature_set_named("a26")


def test_a_feature_set_is_found_by_its_name():
    assert feature_set_named("a25") == A25
    assert feature_set_named("a25s") == A25S
    assert A25S.spec.feature_set == "a25s"


@pytest.mark.parametrize(
    ("name", "symbol", "digest"),
    [
        ("a25", "^GSPC", "7ffc1b223cccf515"),
        ("a25", "^IXIC", "f48ffea9667a51cc"),
        ("a25s", "^GSPC", "33a0ea860cfa20d1"),
        ("a25s", "^IXIC", "ab74c4302b2de96d"),
    ],
)
def test_the_reference_sets_stay_what_earlier_runs_were_trained_on(
    bundled_bars: dict[str, pd.DataFrame], name: str, symbol: str, digest: str
):
    assert feature_set_named(name).version == 1
    assert build(feature_set_named(name), bundled_bars[symbol]).digest == digest


def test_each_tier_holds_the_one_before():
    a25s, s50, s100 = (WHOLE_SETS[name].columns for name in ("a25s", "s50", "s100"))
    assert s50[:25] == s100[:25] == a25s
    assert set(s50) < set(s100)
    assert [len(set(columns)) for columns in (s50, s100)] == [len(s50), len(s100)] == [50, 100]


@pytest.mark.parametrize(("name", "own", "with_index", "with_both"), [("s50", 44, 47, 50), ("s100", 86, 93, 100)])
def test_cross_asset_columns_exist_where_their_instrument_is_given(name: str, own: int, with_index: int, with_both: int):
    sets = [
        feature_set_named(name),
        feature_set_named(name, index="^GSPC"),
        feature_set_named(name, index="^GSPC", volatility_index="^VIX"),
    ]
    assert [len(one.columns) for one in sets] == [own, with_index, with_both]
    assert [(one.spec.index, one.spec.volatility_index) for one in sets] == [("", ""), ("^GSPC", ""), ("^GSPC", "^VIX")]


@both_sets
@pytest.mark.parametrize("field", ["index", "volatility_index"])
def test_a_set_without_cross_asset_features_refuses_a_reference(name: str, field: str):
    with pytest.raises(InputError, match=f"{field.upper()}=X: {name} has no cross-asset features; give FEATURES=s50 or s100"):
        feature_set_named(name, **{field: "X"})


def test_the_digest_of_a_matrix_follows_its_values_days_and_columns(sp500: pd.DataFrame):
    moved = sp500.set_index(sp500.index[:-1].append(sp500.index[-1:] + pd.Timedelta(days=1)))
    other_price = sp500.copy()
    other_price.iloc[3000, other_price.columns.get_loc("low")] -= 1.0
    digests = [build(A25S, frame).digest for frame in (sp500, moved, other_price, sp500[:-1])] + [build(A25, sp500).digest]
    assert len(set(digests)) == len(digests)
    assert build(A25S, sp500).digest == digests[0]


def test_volatility_is_the_exponentially_weighted_root_mean_square(sp500: pd.DataFrame):
    returns = np.log(sp500["close"]).diff().to_numpy()
    weights = 0.94 ** np.arange(999, -1, -1)
    day = 3000
    expected = np.log(np.sqrt(np.average(returns[day - 999 : day + 1] ** 2, weights=weights)))
    assert indicators.ewma_volatility(sp500["close"].to_numpy())[day] == pytest.approx(expected, abs=1e-9)


@given(seed=seeds, known=st.integers(2, 199))
@settings(deadline=None, max_examples=30)
def test_volatility_does_not_change_when_later_bars_arrive(seed: int, known: int):
    close = random_bars(seed, 200)["close"].to_numpy()
    np.testing.assert_allclose(indicators.ewma_volatility(close[:known]), indicators.ewma_volatility(close)[:known], rtol=1e-12)
