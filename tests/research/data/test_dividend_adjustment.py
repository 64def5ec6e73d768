from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.dividend_adjustment import adjusted
from research.data.sources import Request
from research.data.yahoo.client import fetch
from research.errors import InputError
from research.features.feature_sets import A25S, build
from tests.conftest import random_bars
from tests.support.yahoo_server import fresh_yahoo, session_bars

PRICES = ["open", "high", "low", "close"]
DAYS = 60


def paying(bars: pd.DataFrame, paid: dict[int, float]) -> pd.DataFrame:
    """Bars with a dividend, as a share of the close before, on some rows."""
    dividends = np.zeros(len(bars))
    for row, share in paid.items():
        dividends[row] = share * bars["close"].iloc[max(row - 1, 0)]
    return bars.assign(dividends=dividends)


def payments(last: int = DAYS - 1) -> st.SearchStrategy[dict[int, float]]:
    return st.dictionaries(st.integers(1, last), st.floats(1e-6, 0.5), min_size=1, max_size=6)


histories = st.builds(paying, st.integers(0, 200).map(lambda seed: random_bars(seed, DAYS)), payments())


def gross_returns(bars: pd.DataFrame) -> np.ndarray:
    close = bars["close"].to_numpy()
    return close[1:] / close[:-1]


def test_a_dividend_scales_all_prices_before_it_by_one_minus_its_share_of_the_close_before():
    bars = paying(random_bars(1, 5), {}).assign(close=[100.0, 80.0, 50.0, 40.0, 20.0], dividends=[0.0, 0.0, 8.0, 0.0, 4.0])
    result = adjusted(bars)
    # 1 - 8/80 and 1 - 4/40
    assert result["close"].tolist() == pytest.approx([81.0, 64.8, 45.0, 36.0, 20.0])
    factor = result["close"] / bars["close"]
    for column in PRICES:
        pd.testing.assert_series_equal(result[column] / bars[column], factor, check_names=False)


@settings(max_examples=40, deadline=None)
@given(histories)
def test_returns_change_on_ex_days_alone_and_there_to_the_close_over_the_close_before_less_the_dividend(bars: pd.DataFrame):
    close, dividends = bars["close"].to_numpy(), bars["dividends"].to_numpy()
    expected = close[1:] / (close[:-1] - dividends[1:])
    np.testing.assert_allclose(gross_returns(adjusted(bars)), expected, rtol=1e-12)
    holder = (close[1:] + dividends[1:]) / close[:-1]
    share = dividends[1:] / close[:-1]
    np.testing.assert_allclose(expected - holder, share * (expected - 1), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(histories)
def test_bars_from_the_last_dividend_on_do_not_change_and_a_second_adjustment_does_nothing(bars: pd.DataFrame):
    before, result = bars.copy(), adjusted(bars)
    last = int(np.flatnonzero(bars["dividends"])[-1])
    pd.testing.assert_frame_equal(result[PRICES].iloc[last:], bars[PRICES].iloc[last:], check_exact=True)
    pd.testing.assert_series_equal(result["volume"], bars["volume"], check_exact=True)
    assert adjusted(result) is result
    pd.testing.assert_frame_equal(bars, before, check_exact=True)


@settings(max_examples=20, deadline=None)
@given(histories, st.integers(20, DAYS - 1))
def test_later_bars_change_earlier_adjusted_prices_by_one_constant(bars: pd.DataFrame, known: int):
    ratio = adjusted(bars)[PRICES].iloc[:known] / adjusted(bars.iloc[:known])[PRICES]
    np.testing.assert_allclose(ratio, ratio.iloc[0, 0], rtol=1e-12)
    later_ones = bars["dividends"].iloc[known:].any()
    assert later_ones or ratio.iloc[0, 0] == 1.0


def test_bars_without_dividends_are_the_same_object():
    bars = random_bars(3, 30)
    assert adjusted(bars) is bars
    silent = bars.assign(dividends=0.0)
    assert adjusted(silent) is silent


def test_a_dividend_on_the_first_bar_has_nothing_to_adjust():
    bars = paying(random_bars(4, 30), {0: 0.1})
    pd.testing.assert_frame_equal(adjusted(bars)[PRICES], bars[PRICES], check_exact=True)


@pytest.mark.parametrize("amount", [100.0, 250.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_dividend_is_named_with_its_day(amount: float):
    bars = random_bars(5, 30).assign(dividends=0.0)
    bars.iloc[6, bars.columns.get_loc("close")] = 100.0
    bars.iloc[7, bars.columns.get_loc("dividends")] = amount
    with pytest.raises(InputError) as refused:
        adjusted(bars)
    assert str(refused.value).startswith(f"dividends={amount:g} on {bars.index[7]:%Y-%m-%d}: ")
    assert "the previous close (100)" in str(refused.value)


def test_the_vendors_adjusted_close_is_reproduced(monkeypatch: pytest.MonkeyPatch):
    bars = session_bars("2018-01-02", "2020-12-31")
    dividends = {f"{day:%Y-%m-%d}": 0.1 + 0.01 * row for row, day in enumerate(bars.index[40::63])}
    with fresh_yahoo(monkeypatch) as yahoo:
        yahoo.add("SPY", bars, dividends=dividends, splits={"2019-06-03": 2.0}, kind="ETF", exchange="PCX")
        delivered = fetch(Request(source="yahoo", symbols=("SPY",))).bars["SPY"]
    assert (delivered["dividends"] > 0).sum() == len(dividends) == 12
    np.testing.assert_allclose(adjusted(delivered)["close"], delivered["adj_close"], rtol=1e-6)
    assert not np.allclose(delivered["close"], delivered["adj_close"], rtol=1e-3)


def test_stationary_features_do_not_see_a_dividend_that_is_still_to_come():
    bars = paying(random_bars(6, 500), dict.fromkeys(range(30, 500, 63), 0.01))
    known = 420
    early, late = build(A25S, adjusted(bars.iloc[:known])), build(A25S, adjusted(bars))
    assert bars["dividends"].iloc[known:].any()
    assert early.first_row == late.first_row < known - 100
    np.testing.assert_allclose(early.values[early.first_row :], late.values[late.first_row : known], rtol=0, atol=1e-9)
