"""What comes from Yahoo when it answers: the real yfinance against a server on loopback."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from datetime import date

import numpy as np
import pandas as pd
import pytest
import yfinance

from research.data.sources import Instrument, Request, source_named
from research.data.yahoo.client import fetch
from research.errors import InputError
from tests.support.yahoo_server import CONSENT, ELSEWHERE, ROUND_AND_ROUND, YahooServer, fresh_yahoo, session_bars

BARS = session_bars("2020-01-02", "2020-03-31")
OHLCV = list(BARS.columns)


@pytest.fixture
def yahoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[YahooServer]:
    with fresh_yahoo(monkeypatch) as server:
        yield server


def request_of(*symbols: str, start: date | None = None, end: date | None = None, **settings: str) -> Request:
    return Request(source="yahoo", symbols=symbols, start=start, end=end, settings=settings)


def bars_of(symbol: str, start: date | None = None, end: date | None = None) -> pd.DataFrame:
    return fetch(request_of(symbol, start=start, end=end)).bars[symbol]


def test_prices_volume_and_dates_come_back_exactly(yahoo: YahooServer):
    yahoo.add("SPY", BARS, kind="ETF", exchange="PCX")
    delivered = fetch(request_of("SPY"))
    bars = delivered.bars["SPY"]
    assert list(bars.columns) == [*OHLCV, "dividends", "splits", "adj_close"]
    assert set(map(str, bars.dtypes)) == {"float64"}
    assert bars.index.name == "date"
    pd.testing.assert_frame_equal(bars[OHLCV], BARS, check_exact=True)
    assert delivered.source == "yahoo"
    assert delivered.instruments == {"SPY": Instrument(calendar="XNYS", kind="fund", currency="USD")}
    assert delivered.request == {"symbols": "SPY", "start": "earliest", "end": "newest", "interval": "1d"}
    assert "personal use" in delivered.licence
    assert delivered.versions["yfinance"] == yfinance.__version__
    assert set(delivered.versions) == {"yfinance", "curl_cffi"}
    assert delivered.notes == [f"Requests went to the mirror {yahoo.url} (TAPESCALE_YAHOO), not to Yahoo."]


def test_both_ends_of_the_period_belong_to_it(yahoo: YahooServer):
    yahoo.add("SPY", BARS)
    bars = bars_of("SPY", start=date(2020, 2, 3), end=date(2020, 2, 28))
    assert (bars.index[0], bars.index[-1]) == (pd.Timestamp("2020-02-03"), pd.Timestamp("2020-02-28"))
    assert len(bars) == 19


def test_without_a_start_the_history_begins_at_the_first_bar_there_is(yahoo: YahooServer):
    yahoo.add("^DJI", session_bars("1960-01-04", "1960-03-31"), kind="INDEX", exchange="DJI")
    assert bars_of("^DJI", end=date(1960, 2, 1)).index[0] == pd.Timestamp("1960-01-04")


@pytest.mark.parametrize(
    ("calendar", "timezone", "kind"),
    [("XTKS", "Asia/Tokyo", "EQUITY"), ("XNYS", "America/New_York", "EQUITY"), ("24/5", "Europe/London", "CURRENCY")],
)
def test_a_bar_has_the_date_of_its_own_exchange(yahoo: YahooServer, calendar: str, timezone: str, kind: str):
    # Weeks around both changes of the clock; midnight in London is the day before in UTC in summer.
    bars = session_bars("2020-03-02", "2020-11-10", calendar=calendar)
    yahoo.add("ANY", bars, timezone=timezone, kind=kind)
    assert bars_of("ANY").index.tolist() == bars.index.tolist()


def test_dividends_and_splits_are_columns_of_their_own_and_prices_are_not_adjusted_for_dividends(yahoo: YahooServer):
    yahoo.add("SPY", BARS, dividends={"2020-02-10": 1.41, "2020-03-20": 0.5}, splits={"2020-03-02": 2.0})
    bars = bars_of("SPY")
    assert bars["dividends"][bars["dividends"] > 0].to_dict() == {
        pd.Timestamp("2020-02-10"): 1.41,
        pd.Timestamp("2020-03-20"): 0.5,
    }
    assert bars["splits"][bars["splits"] > 0].to_dict() == {pd.Timestamp("2020-03-02"): 2.0}
    pd.testing.assert_frame_equal(bars[OHLCV], BARS, check_exact=True)
    assert (bars["adj_close"] < bars["close"]).sum() == BARS.index.get_loc("2020-03-20")


def test_the_bar_of_an_open_session_comes_too_on_its_own_date(yahoo: YahooServer):
    yahoo.add("SPY", BARS, last_bar_at="11:23")
    assert bars_of("SPY").index.tolist() == BARS.index.tolist()


def test_rows_without_quotes_are_dropped_and_named_and_their_dividend_goes_to_the_next_bar(yahoo: YahooServer):
    bars = BARS.copy()
    bars.loc["2020-02-10", OHLCV] = np.nan
    bars.loc["2020-02-12", "open"] = np.nan
    bars.loc["2020-02-14", OHLCV] = np.nan
    yahoo.add("SPY", bars, dividends={"2020-02-10": 1.41})
    delivered = fetch(request_of("SPY"))
    kept = delivered.bars["SPY"]
    assert kept.index.tolist() == BARS.index.drop(["2020-02-10", "2020-02-12", "2020-02-14"]).tolist()
    assert kept["dividends"][kept["dividends"] > 0].to_dict() == {pd.Timestamp("2020-02-11"): 1.41}
    assert "SPY: Yahoo has no quotes on 2020-02-10, 2020-02-12, 2020-02-14; these rows were dropped." in delivered.notes


def test_a_missing_session_stays_missing_and_a_dividend_on_it_is_named(yahoo: YahooServer):
    yahoo.add("SPY", BARS.drop(pd.Timestamp("2020-02-10")), dividends={"2020-02-10": 1.41})
    delivered = fetch(request_of("SPY"))
    assert pd.Timestamp("2020-02-10") not in delivered.bars["SPY"].index
    assert "a dividend or split of 2020-02-10, where Yahoo has no row, is on the row before" in delivered.notes[-1]


def test_two_rows_of_one_day_are_named_for_yfinance_keeps_one(yahoo: YahooServer):
    twice = pd.concat([BARS.iloc[:9], BARS.iloc[[8]] * 1.5, BARS.iloc[9:]])
    yahoo.add("SPY", twice)
    delivered = fetch(request_of("SPY"))
    assert len(delivered.bars["SPY"]) == len(BARS)
    assert f"Yahoo sent two rows for {BARS.index[8]:%Y-%m-%d}; the first was kept" in delivered.notes[-1]


def test_capital_gains_of_a_fund_give_a_note_and_are_not_dividends(yahoo: YahooServer):
    yahoo.add("FUND", BARS, capital_gains={"2020-02-10": 0.7}, kind="MUTUALFUND", exchange="NYQ")
    delivered = fetch(request_of("FUND"))
    assert delivered.notes[-1] == "FUND: capital gains were distributed on 2020-02-10; the dividends do not include them."
    assert not delivered.bars["FUND"]["dividends"].any()


def test_the_vendors_adjusted_close_differs_between_two_requests_and_nothing_else_does(yahoo: YahooServer):
    yahoo.add("SPY", BARS, dividends={"2020-02-10": 1.41}, jitter=True)
    first, second = bars_of("SPY"), bars_of("SPY")
    assert (first["adj_close"] != second["adj_close"]).any()
    pd.testing.assert_frame_equal(first.drop(columns="adj_close"), second.drop(columns="adj_close"), check_exact=True)


@pytest.mark.parametrize(
    ("kind", "exchange", "currency", "expected"),
    [
        ("INDEX", "CBO", "USD", Instrument(calendar="XNYS", kind="index", currency="USD")),
        ("EQUITY", "LSE", "GBp", Instrument(calendar="XLON", kind="stock", currency="GBp")),
        ("CURRENCY", "CCY", "USD", Instrument(calendar="24/5", kind="currency", currency="USD")),
        ("CRYPTOCURRENCY", "CCC", "USD", Instrument(calendar="24/7", kind="crypto", currency="USD")),
        ("FUTURE", "NYM", "USD", Instrument(calendar="", kind="other", currency="USD")),
    ],
)
def test_the_instrument_tells_calendar_kind_and_currency(
    yahoo: YahooServer, kind: str, exchange: str, currency: str, expected: Instrument
):
    yahoo.add("ANY", BARS, kind=kind, exchange=exchange, currency=currency)
    delivered = fetch(request_of("ANY"))
    assert delivered.instruments == {"ANY": expected}
    unchecked = "ANY: the exchange NYM has no known calendar; sessions are not checked."
    assert (unchecked in delivered.notes) == (exchange == "NYM")


def test_many_symbols_keep_their_order_and_at_most_two_are_fetched_at_once(yahoo: YahooServer):
    symbols = ("SPY", "^VIX", "BRK-B", "GC=F", "7203.T")
    yahoo.seconds = 0.05
    for seed, symbol in enumerate(symbols):
        yahoo.add(symbol, session_bars("2020-01-02", "2020-02-28", seed=seed))
    bars = fetch(request_of(*symbols)).bars
    assert tuple(bars) == symbols
    assert len({frame["close"].iloc[-1] for frame in bars.values()}) == len(symbols)
    assert yahoo.most_at_once == 2
    assert [seen.target.partition("?")[0] for seen in yahoo.charts("^VIX")] == ["/v8/finance/chart/%5EVIX"] * 2


def test_a_consent_form_is_filled_in_on_the_mirror(yahoo: YahooServer):
    yahoo.add("SPY", BARS)
    bars_of("SPY")
    yahoo.answer("SPY", CONSENT)
    assert len(bars_of("SPY")) == len(BARS)
    assert ("consent.yahoo.com", "POST") in {(seen.host, seen.method) for seen in yahoo.seen}
    assert len(yahoo.charts("SPY")) == 4


def test_a_request_to_another_host_than_yahoos_is_refused(yahoo: YahooServer):
    yahoo.add("SPY", BARS)
    yahoo.answer("SPY", ELSEWHERE)
    with pytest.raises(InputError, match=r"TAPESCALE_YAHOO=.*: a request to example.com was refused"):
        bars_of("SPY")


def test_endless_redirects_are_an_error(yahoo: YahooServer):
    yahoo.add("SPY", BARS)
    yahoo.answer("SPY", ROUND_AND_ROUND, times=99)
    with pytest.raises(InputError, match="the mirror redirects without end"):
        bars_of("SPY")


def test_the_time_limit_may_change_within_a_process(yahoo: YahooServer):
    yahoo.add("SPY", BARS)
    first, second = (fetch(request_of("SPY", timeout=seconds)).bars["SPY"] for seconds in ("5", "6"))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_the_mirror_is_reached_without_the_proxy(yahoo: YahooServer, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yahoo.add("SPY", BARS)
    assert len(bars_of("SPY")) == len(BARS)


def test_yfinance_is_left_as_it_was(yahoo: YahooServer, recwarn: pytest.WarningsRecorder):
    yahoo.add("SPY", BARS)
    level = logging.getLogger("yfinance").level
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        bars_of("SPY")
    assert list(recwarn) == []
    assert logging.getLogger("yfinance").level == level
    assert yfinance.config.debug.hide_exceptions


def test_yahoo_is_a_source_by_its_name():
    assert source_named("yahoo") is fetch
