from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.bars import OHLCV, PRICES, bars_digest, check_bars
from research.errors import InputError
from tests.conftest import random_bars

BROKEN_ROW = 7


@pytest.fixture
def bars() -> pd.DataFrame:
    return random_bars(seed=3, days=40)


def with_value(bars: pd.DataFrame, column: str, value: float) -> pd.DataFrame:
    return with_row(bars, BROKEN_ROW, column, value)


def with_row(bars: pd.DataFrame, row: int, column: str, value: float) -> pd.DataFrame:
    bars.iloc[row, bars.columns.get_loc(column)] = value
    return bars


def with_day(bars: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    days = bars.index.to_list()
    days[BROKEN_ROW] = day
    return bars.set_index(pd.DatetimeIndex(days))


BREAKS: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "duplicate day": ("a date comes twice", lambda bars: with_day(bars, bars.index[BROKEN_ROW - 1])),
    "unsorted days": ("dates are not increasing", lambda bars: with_day(bars, pd.Timestamp("1990-01-02"))),
    "missing price": ("a price is not finite", lambda bars: with_value(bars, "close", np.nan)),
    "infinite price": ("a price is not finite", lambda bars: with_value(bars, "high", np.inf)),
    "zero price": ("a price is not positive", lambda bars: with_value(bars, "low", 0.0)),
    "negative price": ("a price is not positive", lambda bars: with_value(bars, "low", -1.0)),
    "negative volume": ("volume is negative or not finite", lambda bars: with_value(bars, "volume", -1.0)),
    "missing volume": ("volume is negative or not finite", lambda bars: with_value(bars, "volume", np.nan)),
    "negative dividend": (
        "a dividend or split is negative or not finite",
        lambda bars: with_value(bars.assign(dividends=0.0), "dividends", -0.1),
    ),
    "missing split": (
        "a dividend or split is negative or not finite",
        lambda bars: with_value(bars.assign(splits=0.0), "splits", np.nan),
    ),
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
    assert (
        str(refused.value)
        == f"ABC: {rule} on {broken.index[BROKEN_ROW]:%Y-%m-%d}; correct the source and run `make data` again."
    )


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
        (lambda bars: bars.set_index(bars.index[:-1].append(pd.DatetimeIndex([pd.NaT]))), "a date is missing"),
        (lambda bars: bars.assign(low="1.0"), "column low is not numeric"),
    ],
)
def test_bars_without_plain_dates_are_refused(bars: pd.DataFrame, damage: Callable[[pd.DataFrame], pd.DataFrame], said: str):
    with pytest.raises(InputError, match=said):
        check_bars(damage(bars), "ABC")


def test_a_rule_that_was_allowed_at_ingestion_is_allowed_again(bars: pd.DataFrame):
    broken = with_value(bars, "high", bars["close"].iloc[BROKEN_ROW] * 0.999)
    check_bars(broken, "ABC", allow=["high-too-low"])
    with pytest.raises(InputError, match="high is below open"):
        check_bars(broken, "ABC", allow=["low-too-high"])


def test_the_digest_knows_the_bundled_bars(bundled_bars: dict[str, pd.DataFrame]):
    assert bars_digest({"^GSPC": bundled_bars["^GSPC"]}) == "41459dd9c01ef84b"
    assert bars_digest(bundled_bars) == "e56348962ae6f5b4"


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda bars: bars[list(reversed(bars.columns))],
        lambda bars: bars.assign(adj_close=bars["adj_close"] * 1.0000003),
        lambda bars: bars.drop(columns="adj_close"),
        lambda bars: bars.assign(sector=1.0),
        lambda bars: bars.assign(dividends=0.0, splits=0.0),
        lambda bars: bars.assign(dividends=-1e-9, splits=-0.0),
        lambda bars: bars.assign(**{price: bars[price] + 1e-9 for price in PRICES}),
        lambda bars: bars.assign(volume=bars["volume"].astype(np.int64)),
        lambda bars: bars.set_index(bars.index.as_unit("s")),
    ],
    ids=[
        "column order",
        "adj_close",
        "no adj_close",
        "extra column",
        "no action",
        "zero action",
        "noise of 1e-9",
        "integer volume",
        "unit of dates",
    ],
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


def test_the_digest_sees_every_dividend_and_split(bars: pd.DataFrame):
    def acted(column: str, row: int, value: float) -> str:
        return bars_digest({"ABC": with_row(bars.assign(**{column: 0.0}), row, column, value)})

    variants = [("dividends", 3, 0.5), ("dividends", 4, 0.5), ("dividends", 3, 0.50001), ("splits", 3, 0.5), ("splits", 3, 2.0)]
    assert len({bars_digest({"ABC": bars}), *(acted(*variant) for variant in variants)}) == 1 + len(variants)
    assert acted("dividends", 3, 0.5) == acted("dividends", 3, 0.5 + 1e-9)
    paid = with_row(bars.assign(dividends=-0.0), 3, "dividends", 0.5)
    assert bars_digest({"ABC": paid}) == acted("dividends", 3, 0.5)


def test_actions_of_one_symbol_leave_the_digest_to_the_others_columns(bars: pd.DataFrame):
    paid = with_row(bars.assign(dividends=0.0), 3, "dividends", 0.5)
    assert bars_digest({"ABC": paid, "ABD": bars}) == bars_digest({"ABC": paid, "ABD": bars.assign(dividends=0.0)})


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
