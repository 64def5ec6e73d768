from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from conftest import random_bars
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.bars import OHLCV, PRICES, bars_digest, check_bars, warnings_of
from research.spec import InputError

BROKEN_ROW = 7


@pytest.fixture
def bars() -> pd.DataFrame:
    return random_bars(seed=3, days=40)


def with_value(bars: pd.DataFrame, column: str, value: float) -> pd.DataFrame:
    bars.iloc[BROKEN_ROW, bars.columns.get_loc(column)] = value
    return bars


def with_day(bars: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    days = bars.index.to_list()
    days[BROKEN_ROW] = day
    return bars.set_index(pd.DatetimeIndex(days))


BREAKS: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "duplicate day": ("dates are not unique and increasing", lambda bars: with_day(bars, bars.index[BROKEN_ROW - 1])),
    "unsorted days": ("dates are not unique and increasing", lambda bars: with_day(bars, pd.Timestamp("1990-01-02"))),
    "missing price": ("a price is not finite", lambda bars: with_value(bars, "close", np.nan)),
    "infinite price": ("a price is not finite", lambda bars: with_value(bars, "high", np.inf)),
    "zero price": ("a price is not positive", lambda bars: with_value(bars, "low", 0.0)),
    "negative price": ("a price is not positive", lambda bars: with_value(bars, "low", -1.0)),
    "negative volume": ("volume is negative or not finite", lambda bars: with_value(bars, "volume", -1.0)),
    "missing volume": ("volume is negative or not finite", lambda bars: with_value(bars, "volume", np.nan)),
    "high below close": (
        "high is below open, low or close",
        lambda bars: with_value(bars, "close", bars["high"].iloc[BROKEN_ROW] + 0.01),
    ),
    "high below open": (
        "high is below open, low or close",
        lambda bars: with_value(bars, "open", bars["high"].iloc[BROKEN_ROW] + 0.01),
    ),
    "low above open": (
        "low is above open or close",
        lambda bars: with_value(bars, "open", bars["low"].iloc[BROKEN_ROW] - 0.01),
    ),
    "low above close": (
        "low is above open or close",
        lambda bars: with_value(bars, "close", bars["low"].iloc[BROKEN_ROW] - 0.01),
    ),
}


@pytest.mark.parametrize("symbol", ["^GSPC", "^IXIC"])
def test_bundled_bars_keep_the_contract(bundled_bars: dict[str, pd.DataFrame], symbol: str):
    check_bars(bundled_bars[symbol], symbol)


@given(st.integers(0, 10_000), st.integers(1, 80))
@settings(deadline=None, max_examples=50)
def test_valid_bars_are_accepted(seed: int, days: int):
    check_bars(random_bars(seed, days), "X")


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_rule_is_refused_with_symbol_rule_and_day(bars: pd.DataFrame, name: str):
    rule, damage = BREAKS[name]
    broken = damage(bars)
    with pytest.raises(InputError) as refused:
        check_bars(broken, "ABC")
    assert str(refused.value) == f"ABC: {rule} on {broken.index[BROKEN_ROW]:%Y-%m-%d}; mend the source and ingest again."


@pytest.mark.parametrize("column", OHLCV)
def test_a_missing_column_is_refused_by_name(bars: pd.DataFrame, column: str):
    with pytest.raises(InputError, match=f"ABC: column {column} is missing"):
        check_bars(bars.drop(columns=column), "ABC")


def test_many_broken_days_are_counted_instead_of_listed(bars: pd.DataFrame):
    with pytest.raises(InputError, match=f"{bars.index[0]:%Y-%m-%d}, .* and 37 more days"):
        check_bars(bars.assign(volume=-1.0), "ABC")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda bars: bars.iloc[:0], "there are no bars"),
        (lambda bars: bars.tz_localize("UTC"), "without a time zone"),
        (lambda bars: bars.reset_index(drop=True), "the index must be dates"),
    ],
)
def test_bars_without_plain_dates_are_refused(bars: pd.DataFrame, damage: Callable[[pd.DataFrame], pd.DataFrame], said: str):
    with pytest.raises(InputError, match=said):
        check_bars(damage(bars), "ABC")


def test_stale_opens_of_the_sp500_are_told(sp500: pd.DataFrame):
    (warning,) = warnings_of(sp500, "^GSPC")
    assert "open equals the previous close on 96% of the days in 1999-2005" in warning


def test_zero_volume_and_flat_days_are_told(bars: pd.DataFrame):
    assert warnings_of(bars, "ABC") == []
    bars.iloc[5, bars.columns.get_loc("volume")] = 0.0
    bars.iloc[BROKEN_ROW, :4] = 100.0
    assert warnings_of(bars, "ABC") == [
        f"ABC: volume is zero on {bars.index[5]:%Y-%m-%d}.",
        f"ABC: the bar is flat on {bars.index[BROKEN_ROW]:%Y-%m-%d}.",
    ]


def test_the_digest_knows_the_bundled_bars(bundled_bars: dict[str, pd.DataFrame]):
    assert bars_digest({"^GSPC": bundled_bars["^GSPC"]}) == "41459dd9c01ef84b"


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda bars: bars[list(reversed(bars.columns))],
        lambda bars: bars.assign(adj_close=bars["adj_close"] * 1.0000003),
        lambda bars: bars.drop(columns="adj_close"),
        lambda bars: bars.assign(dividends=1.0),
        lambda bars: bars.assign(**{price: bars[price] + 1e-9 for price in PRICES}),
        lambda bars: bars.assign(volume=bars["volume"].astype(np.int64)),
        lambda bars: bars.set_index(bars.index.as_unit("s")),
    ],
    ids=["column order", "adj_close", "no adj_close", "extra column", "noise of 1e-9", "integer volume", "unit of dates"],
)
def test_the_digest_ignores_what_is_not_ohlcv(sp500: pd.DataFrame, rewrite: Callable[[pd.DataFrame], pd.DataFrame]):
    assert bars_digest({"^GSPC": rewrite(sp500)}) == bars_digest({"^GSPC": sp500})


def test_the_digest_ignores_the_order_of_symbols(bundled_bars: dict[str, pd.DataFrame]):
    assert bars_digest(dict(reversed(bundled_bars.items()))) == bars_digest(bundled_bars)


@given(st.integers(0, 39), st.sampled_from(OHLCV), st.sampled_from([-1.0, -1e-5, 1e-5, 1.0]))
@settings(deadline=None, max_examples=60)
def test_the_digest_sees_every_single_number(row: int, column: str, change: float):
    bars = random_bars(seed=3, days=40)
    before = bars_digest({"ABC": bars})
    bars.iloc[row, bars.columns.get_loc(column)] += change
    assert bars_digest({"ABC": bars}) != before


def test_the_digest_sees_dates_symbols_and_length(bars: pd.DataFrame):
    later = bars.set_index(bars.index[:-1].append(bars.index[-1:] + pd.Timedelta(days=1)))
    variants = [
        {"ABC": bars},
        {"ABD": bars},
        {"ABC": later},
        {"ABC": bars.iloc[:-1]},
        {"ABC": bars.iloc[1:]},
        {"ABC": bars, "ABD": bars},
        {},
    ]
    assert len({bars_digest(variant) for variant in variants}) == len(variants)
