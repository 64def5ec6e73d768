"""What every column of every set owes its user: no future, no units, a value on any bars, its declared warm-up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.features.feature import Bars, FeatureSet
from research.features.feature_sets import WHOLE_SETS, build, feature_set_named
from research.features.reference_series import joined_references
from tests.conftest import random_bars

WEEKLY = {"rsi_14_weekly", "stoch_rsi_weekly"}

every_set = pytest.mark.parametrize("name", WHOLE_SETS)
tiers = pytest.mark.parametrize("name", ["s50", "s100"])
seeds = st.integers(0, 100_000)


def whole(name: str) -> FeatureSet:
    needed = {feature.needs for feature in WHOLE_SETS[name].features}
    given_ones = {need: symbol for need, symbol in (("index", "I"), ("volatility_index", "X")) if need in needed}
    return feature_set_named(name, **given_ones)


def columns_of(name: str, frame: pd.DataFrame, references: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Every column of a set, the incomplete rows too."""
    feature_set = whole(name)
    bars = Bars.of(frame, joined_references(feature_set, pd.DatetimeIndex(frame.index), references))
    return pd.DataFrame({feature.name: feature.compute(bars) for feature in feature_set.features}, index=frame.index)


def market(seed: int, days: int) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """An instrument, and an index and a volatility index on its days."""
    frame = random_bars(seed, days)
    others = {name: random_bars(seed + shift, days).set_index(frame.index) for shift, name in ((1, "I"), (2, "X"))}
    return frame, others


def with_other_future(frame: pd.DataFrame, known: int, seed: int, days: int) -> pd.DataFrame:
    """The first `known` bars, then wild ones on other days."""
    start = frame.index[known - 1] + pd.Timedelta(days=1)
    future = random_bars(seed, days, start=str(start.date()), volatility=0.2) * np.array([7, 7, 7, 7, 1e4])
    future.iloc[::3, 4] = 0.0
    return pd.concat([frame[:known], future])


@every_set
@given(seed=seeds, known=st.integers(2, 300), days=st.integers(1, 60))
@settings(deadline=None, max_examples=30)
def test_no_column_changes_when_another_future_comes(name: str, seed: int, known: int, days: int):
    frame, references = market(seed, 300)
    other_frame = with_other_future(frame, known, seed + 3, days)
    other_references = {
        "I": with_other_future(references["I"], known, seed + 4, 2).pipe(on_days, other_frame.index),
        # The volatility index of the newest session itself is not known at its close.
        "X": with_other_future(references["X"], known - 1, seed + 5, 2).pipe(on_days, other_frame.index),
    }
    one = columns_of(name, frame, references)[:known]
    other = columns_of(name, other_frame, other_references)[:known]
    pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=False)


def on_days(reference: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    """The reference on exactly these days, the last bar repeated where it has none."""
    return reference.reindex(days, method="ffill")


@tiers
def test_no_column_of_real_bars_changes_around_holidays(bundled_bars: dict[str, pd.DataFrame], name: str):
    feature_set, references = whole(name), {"I": bundled_bars["^GSPC"], "X": bundled_bars["^IXIC"]}
    frame = bundled_bars["^IXIC"][:1400]
    full = build(feature_set, frame, references)
    week = frame.index.to_period("W-FRI")
    short = np.flatnonzero(week.isin(week.value_counts()[lambda count: count < 5].index))
    for known in short[short > full.first_row][::6] + 1:
        prefix = build(feature_set, frame[:known], references)
        np.testing.assert_array_equal(prefix.values, full.values[:known])


@every_set
def test_every_column_begins_on_its_declared_row(name: str):
    frame, references = market(5, 330)
    first = columns_of(name, frame, references).notna().idxmax().map(frame.index.get_loc)
    declared = pd.Series({feature.name: feature.warm_up for feature in whole(name).features})
    daily = [column for column in declared.index if column not in WEEKLY]
    assert first[daily].to_dict() == declared[daily].to_dict()


@pytest.mark.parametrize("name", ["a25", "a25s", "s100"])
@pytest.mark.parametrize(("start", "early"), [("2001-01-01", 0), ("2001-01-05", 4)])
def test_a_weekly_column_begins_on_its_declared_row_or_earlier_in_a_first_week_that_is_short(name: str, start: str, early: int):
    """2001-01-01 is a Monday: full weeks need every declared session."""
    frame, references = market(5, 330)
    days = pd.bdate_range(start, periods=330)
    references = {symbol: bars.set_index(days) for symbol, bars in references.items()}
    found = columns_of(name, frame.set_index(days), references)[sorted(WEEKLY)]
    declared = {feature.name: feature.warm_up - early for feature in whole(name).features if feature.name in WEEKLY}
    assert {column: int(found[column].notna().argmax()) for column in found} == declared


@tiers
@given(seed=seeds, prices=st.floats(1e-3, 1e3), volume=st.floats(1e-3, 1e3), index=st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=30)
def test_the_tiers_do_not_see_the_units(name: str, seed: int, prices: float, volume: float, index: float):
    frame, references = market(seed, 300)
    frame.iloc[[150, 220], 4] = 0.0
    other_references = {**references, "I": references["I"] * index}
    one = columns_of(name, frame, references)
    other = columns_of(name, frame * np.array([prices, prices, prices, prices, volume]), other_references)
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-7)


def flat_stretch(frame: pd.DataFrame) -> None:
    frame.iloc[100:250, :4] = frame["close"].iloc[99]


def no_volume(frame: pd.DataFrame) -> None:
    frame.iloc[100:250, 4] = 0.0


def never_traded(frame: pd.DataFrame) -> None:
    frame["volume"] = 0.0


def nothing_ever(frame: pd.DataFrame) -> None:
    frame.iloc[:, :4] = 100.1
    frame["volume"] = 0.0


def collapse(frame: pd.DataFrame) -> None:
    frame.iloc[200:, :4] *= 1e-4


def stale_opens(frame: pd.DataFrame) -> None:
    frame["open"] = frame["close"].shift().fillna(frame["open"])
    frame["high"] = frame[["open", "high"]].max(axis=1)
    frame["low"] = frame[["open", "low"]].min(axis=1)


@tiers
@pytest.mark.parametrize("damage", [flat_stretch, no_volume, never_traded, nothing_ever, collapse, stale_opens])
def test_every_column_of_a_tier_has_a_sober_value_on_any_bars(name: str, damage: object):
    frame, references = market(7, 330)
    damage(frame)
    found = columns_of(name, frame, references)
    for feature in whole(name).features:
        values = found[feature.name].iloc[feature.warm_up :]
        assert np.isfinite(values).all(), feature.name
        assert values.abs().max() < 200, feature.name


NEUTRAL = {
    "close_location": 0.0,
    "shock": 0.0,
    "gap": 0.0,
    "jump_share_20": 0.0,
    "trend_r2_60": 0.0,
    "cci_20": 0.0,
    "williams_r_14": -0.5,
    "mfi_14": 0.5,
    "ultimate": 0.5,
    "chaikin_flow_20": 0.0,
    "volume_return_correlation_60": 0.0,
    "skewness_60": 0.0,
    "kurtosis_60": 0.0,
    "autocorrelation_60": 0.0,
    "absolute_autocorrelation_60": 0.0,
    "variance_ratio_60": 0.0,
    "up_share_20": 0.5,
    "index_correlation_60": 0.0,
    "since_high_60": 0.0,
    "since_low_60": 0.0,
    "aroon_25": 0.0,
    "realised_volatility_20": np.log(1e-5),
}


@pytest.mark.parametrize("price", [0.1, 100.1, 2345.67])
def test_a_flat_stretch_has_the_stated_values(price: float):
    frame, references = market(7, 330)
    frame.iloc[150:280, :4] = price
    found = columns_of("s100", frame, references)[list(NEUTRAL)].iloc[279]
    assert found.to_dict() == pytest.approx(NEUTRAL, abs=1e-12)


@tiers
def test_every_column_of_a_tier_has_a_value_if_the_references_are_constant(name: str):
    frame, references = market(7, 330)
    for reference in references.values():
        nothing_ever(reference)
    assert np.isfinite(columns_of(name, frame, references).iloc[252:]).all(axis=None)


@tiers
def test_the_tiers_begin_with_the_reference_columns_bit_for_bit(bundled_bars: dict[str, pd.DataFrame], name: str):
    frame = bundled_bars["^GSPC"]
    reference, tier = build(feature_set_named("a25s"), frame), build(feature_set_named(name), frame)
    assert tier.first_row == reference.first_row
    np.testing.assert_array_equal(tier.values[:, :25], reference.values)


def test_no_two_columns_of_the_widest_tier_are_the_same(bundled_bars: dict[str, pd.DataFrame]):
    matrix = build(whole("s100"), bundled_bars["^IXIC"], {"I": bundled_bars["^GSPC"], "X": random_reference(bundled_bars)})
    values = matrix.values[matrix.first_row :]
    assert (values.std(axis=0) > 0).all()
    alike = np.abs(np.corrcoef(values.T)) - np.eye(values.shape[1])
    pairs = [(matrix.columns[one], matrix.columns[other]) for one, other in np.argwhere(alike > 0.9975) if one < other]
    assert pairs == []


def random_reference(bundled_bars: dict[str, pd.DataFrame]) -> pd.DataFrame:
    days = bundled_bars["^IXIC"].index
    return random_bars(3, len(days)).set_index(days)
