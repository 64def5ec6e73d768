"""What happens when Yahoo does not answer as hoped, and what the user is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest

from research.data.sources import Request, SourceBars
from research.data.yahoo import client
from research.data.yahoo.client import RetryPolicy, fetch
from research.errors import InputError
from tests.support.yahoo_server import (
    BROKEN,
    HTML,
    TOO_MANY,
    Answer,
    YahooServer,
    fresh_yahoo,
    session_bars,
    slow,
    too_many,
    without,
)

BARS = session_bars("2020-01-02", "2020-03-31")
END = date(2020, 3, 31)


@pytest.fixture
def yahoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[YahooServer]:
    with fresh_yahoo(monkeypatch) as server:
        server.add("SPY", BARS, kind="ETF", exchange="PCX")
        yield server


@dataclass
class Naps:
    """Remembers how long it would have slept."""

    taken: list[float] = field(default_factory=list)

    def fetch(
        self, *symbols: str, start: date | None = None, end: date | None = END, jitter: float = 0.0, timeout: str = "5"
    ) -> SourceBars:
        request = Request(source="yahoo", symbols=symbols, start=start, end=end, settings={"timeout": timeout})
        return fetch(request, RetryPolicy(sleep=self.taken.append, jitter=lambda: jitter))


def refusal_of(naps: Naps, *symbols: str, **options: object) -> list[str]:
    with pytest.raises(InputError) as refused:
        naps.fetch(*symbols, **options)
    first, *rest = str(refused.value).splitlines()
    assert first == f"SYMBOLS={','.join(symbols)}: {len(rest)} of {len(symbols)} symbols failed, nothing was stored."
    return rest


def test_a_rate_limit_is_waited_out(yahoo: YahooServer):
    naps = Naps()
    yahoo.answer("SPY", TOO_MANY, times=4)
    assert len(naps.fetch("SPY", jitter=0.5).bars["SPY"]) == len(BARS)
    assert naps.taken == [1.25, 2.5]


def test_a_rate_limit_that_says_when_to_come_back_is_obeyed(yahoo: YahooServer):
    naps = Naps()
    yahoo.answer("SPY", too_many(retry_after=17), times=2)
    naps.fetch("SPY")
    assert naps.taken == [17]


def test_a_rate_limit_for_an_hour_is_not_waited_for(yahoo: YahooServer):
    naps = Naps()
    yahoo.answer("SPY", too_many(retry_after=3600), times=2)
    (sentence,) = refusal_of(naps, "SPY")
    assert naps.taken == []
    assert "Yahoo asks to wait 3,600 seconds" in sentence


def test_a_permanent_rate_limit_ends_after_five_attempts(yahoo: YahooServer):
    naps = Naps()
    yahoo.answer("SPY", TOO_MANY, times=99)
    assert refusal_of(naps, "SPY") == [
        "SPY: rate limit (HTTP 429: Too Many Requests); wait a quarter of an hour and run again, or give fewer symbols."
    ]
    assert naps.taken == [1, 2, 4, 8]
    assert len(yahoo.charts("SPY")) == 10


def test_an_error_that_yfinance_keeps_is_cleared_before_the_next_attempt(yahoo: YahooServer, monkeypatch: pytest.MonkeyPatch):
    naps = Naps()
    yahoo.answer("SPY", BROKEN, times=2)
    with monkeypatch.context() as uncleared:
        uncleared.setattr(client.YfData.cache_get, "cache_clear", lambda: None)
        with pytest.raises(json.JSONDecodeError):
            naps.fetch("SPY")
    assert (len(naps.taken), len(yahoo.charts("SPY"))) == (1, 2), "the second attempt read what yfinance had kept of the first"
    assert len(naps.fetch("SPY").bars["SPY"]) == len(BARS)


def test_a_server_error_is_tried_again(yahoo: YahooServer):
    naps = Naps()
    yahoo.answer("SPY", BROKEN, times=2)
    assert len(naps.fetch("SPY").bars["SPY"]) == len(BARS)
    assert len(naps.taken) == 1


def test_a_permanent_server_error_is_reported(yahoo: YahooServer):
    yahoo.answer("SPY", BROKEN, times=99)
    assert refusal_of(Naps(), "SPY") == [
        "SPY: Yahoo unreachable (HTTP 500: Internal Server Error); check the network and run again."
    ]


def test_a_refused_connection_is_reported(monkeypatch: pytest.MonkeyPatch):
    naps = Naps()
    with fresh_yahoo(monkeypatch) as server:
        server.close()
        (sentence,) = refusal_of(naps, "SPY")
    assert sentence.startswith("SPY: Yahoo unreachable (curl: (7) Failed to connect to 127.0.0.1")
    assert len(naps.taken) == 4


def test_an_unknown_symbol_is_not_tried_again(yahoo: YahooServer):
    naps = Naps()
    assert refusal_of(naps, "NOPE") == [
        "NOPE: unknown symbol (No data found, symbol may be delisted); check it on finance.yahoo.com."
    ]
    assert naps.taken == []


def test_a_timeout_is_retried_and_then_reported_with_the_option_to_use(yahoo: YahooServer):
    naps = Naps()
    yahoo.answer("SPY", slow(5), times=3)
    (sentence,) = refusal_of(naps, "SPY", timeout="0.15")
    assert sentence.startswith("SPY: timeout (curl: (28) Operation timed out after 15")
    assert sentence.endswith("run again, with a longer --timeout.")
    assert naps.taken == [1, 2]


def test_the_last_failure_is_reported(yahoo: YahooServer):
    for _ in range(3):
        yahoo.answer("SPY", BROKEN)
        yahoo.answer("SPY", slow(5))
    (sentence,) = refusal_of(Naps(), "SPY", timeout="0.15")
    assert sentence.startswith("SPY: timeout (")


def test_slowness_that_passes_costs_nothing(yahoo: YahooServer):
    yahoo.answer("SPY", slow(5))
    assert len(Naps().fetch("SPY", timeout="0.15").bars["SPY"]) == len(BARS)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (HTML, "HTTP 200: <!DOCTYPE html><html><body>Yahoo</body></html> instead of a chart"),
        (Answer(body="{}"), "HTTP 200: {} instead of a chart"),
        (without("timestamp"), "the chart has no timestamp"),
        (without("indicators", "quote", 0, "close"), "the chart has no indicators.quote.0.close"),
        (without("meta", "exchangeTimezoneName"), "the chart has no meta.exchangeTimezoneName"),
        (without("meta", "instrumentType"), "the chart has no meta.instrumentType"),
    ],
)
def test_an_unexpected_answer_is_retried_once_and_reported(yahoo: YahooServer, answer: Answer, said: str):
    naps = Naps()
    naps.fetch("SPY")
    yahoo.answer("SPY", answer, times=99)
    assert refusal_of(naps, "SPY") == [
        f"SPY: unexpected answer ({said}); open finance.yahoo.com in a browser; if it works there, upgrade yfinance."
    ]
    assert naps.taken == [1]


def test_an_answer_of_another_form_may_be_a_hiccup(yahoo: YahooServer):
    yahoo.answer("SPY", HTML)
    assert len(Naps().fetch("SPY").bars["SPY"]) == len(BARS)


@pytest.mark.parametrize("down", [Answer(body="<html>Will be right back</html>"), Answer(status=403, body="Forbidden")])
def test_a_maintenance_page_is_not_an_unexpected_answer(yahoo: YahooServer, down: Answer):
    yahoo.answer("SPY", down, times=99)
    (sentence,) = refusal_of(Naps(), "SPY")
    assert sentence.startswith("SPY: Yahoo unreachable (HTTP ")


def test_two_failures_are_both_reported_and_nothing_is_stored(yahoo: YahooServer):
    naps = Naps()
    for symbol in ("QQQ", "DIA"):
        yahoo.add(symbol, BARS)
    yahoo.answer("QQQ", BROKEN, times=99)
    sentences = refusal_of(naps, "SPY", "QQQ", "NOPE", "DIA")
    assert [sentence.partition(" (")[0] for sentence in sentences] == ["QQQ: Yahoo unreachable", "NOPE: unknown symbol"]
    assert len(yahoo.charts("DIA")) == 2, "those after a failure are still looked at, so that one run names all"


@pytest.mark.parametrize("year", [2020, 2021])
def test_a_period_without_sessions_asks_for_another_one(yahoo: YahooServer, year: int):
    saturday = date(year, 3, 21) if year == 2020 else date(year, 3, 20)
    naps = Naps()
    (sentence,) = refusal_of(naps, "SPY", start=saturday, end=saturday + timedelta(days=1))
    assert sentence.startswith("SPY: no bars (")
    assert sentence.endswith("give another START or END.")
    assert naps.taken == []


def test_a_symbol_of_which_no_row_has_quotes_has_no_bars(yahoo: YahooServer):
    yahoo.add("SPY", BARS * float("nan"))
    assert refusal_of(Naps(), "SPY") == ["SPY: no bars (no row has quotes); give another START or END."]


def test_an_error_that_is_not_yahoos_is_not_swallowed(yahoo: YahooServer, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(client, "parse_history", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        Naps().fetch("SPY")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"symbols": ()}, "SYMBOLS=: no symbol is given; name instruments as Yahoo does"),
        ({"symbols": ("SPY", "SPY")}, "SYMBOLS=SPY,SPY: a symbol is repeated; give each once"),
        ({"symbols": ("spy",)}, "SYMBOLS=spy: not a Yahoo symbol; give one in capitals"),
        ({"symbols": ("../SPY",)}, "SYMBOLS=../SPY: not a Yahoo symbol"),
        ({"symbols": ("US78462F1030",)}, "SYMBOLS=US78462F1030: not a Yahoo symbol"),
        ({"start": date(2020, 2, 2), "end": date(2020, 2, 1)}, "START=2020-02-02: this day is after END=2020-02-01"),
        ({"start": date(9000, 1, 1)}, "START=9000-01-01: this day is in the future"),
        ({"end": date(1900, 1, 1)}, "END=1900-01-01: before all data; give a day after 1927-01-01"),
        ({"settings": {"timeout": "soon"}}, "TIMEOUT=soon: not a time limit; give a positive number of seconds"),
        ({"settings": {"timeout": "0"}}, "TIMEOUT=0: not a time limit; give a positive number of seconds"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_sent(yahoo: YahooServer, asked: dict[str, object], message: str):
    with pytest.raises(InputError) as refused:
        fetch(Request(**{"source": "yahoo", "symbols": ("SPY",), **asked}))
    assert str(refused.value).startswith(message)
    assert yahoo.seen == []


@pytest.mark.parametrize("mirror", ["localhost:80", "ftp://localhost", "http://"])
def test_a_mirror_that_is_not_an_address_is_refused(monkeypatch: pytest.MonkeyPatch, mirror: str):
    monkeypatch.setenv("TAPESCALE_YAHOO", mirror)
    with pytest.raises(InputError, match=f"TAPESCALE_YAHOO={mirror}: not an address; give http://host:port"):
        Naps().fetch("SPY")
