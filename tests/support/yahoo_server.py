"""A stand-in for Yahoo on loopback: cookie, crumb, consent and chart answers for the real yfinance client.

`TAPESCALE_YAHOO=server.url` in the environment sends every request of a process here:

    with YahooServer() as server:
        server.add("SPY", session_bars("2020-01-02", "2020-12-31"), dividends={"2020-03-20": 1.41}, kind="ETF", exchange="PCX")
        server.answer("SPY", TOO_MANY, times=2)
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import pandas as pd
import pytest
import yfinance.base
import yfinance.cache
import yfinance.data

from research.data.yahoo import session
from tests.support.yahoo_charts import Listing, session_bars

__all__ = ["YahooServer", "fresh_yahoo", "session_bars", "slow", "too_many", "without"]

CHART = "/v8/finance/chart/"
NO_SUCH_SYMBOL = {"code": "Not Found", "description": "No data found, symbol may be delisted"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes over the wire instead of the symbol's chart, or what is done to it."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """How long it lets the client wait."""
    without: tuple[str | int, ...] = ()
    """Path of a member that the true chart loses: `("chart", "result", 0, "timestamp")`."""


# yfinance asks once more with other cookies after a status of 400 and above: each failed attempt takes such an answer twice.
TOO_MANY = Answer(status=429, body="Too Many Requests\r\n")
BROKEN = Answer(status=500, body="Internal Server Error")
HTML = Answer(body="<!DOCTYPE html><html><body>Yahoo</body></html>", headers={"Content-Type": "text/html"})
CONSENT = Answer(status=302, headers={"Location": "https://consent.yahoo.com/v2/consent?done={path}"})
ROUND_AND_ROUND = Answer(status=302, headers={"Location": ""})
ELSEWHERE = Answer(status=302, headers={"Location": "https://example.com/"})


def too_many(retry_after: float) -> Answer:
    """A 429 that says when to come back."""
    return Answer(status=429, body=TOO_MANY.body, headers={"Retry-After": f"{retry_after:g}"})


def slow(seconds: float) -> Answer:
    """The true chart, late."""
    return Answer(seconds=seconds)


def without(*path: str | int) -> Answer:
    """The true chart less one member of its (only) result."""
    return Answer(without=("chart", "result", 0, *path))


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request as it arrived."""

    host: str
    """Host the client meant."""
    method: str
    path: str
    query: dict[str, str]
    target: str
    """Path and query as they were sent."""


class YahooServer:
    """The server, as a context manager on a free port of loopback."""

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.seen: list[Seen] = []
        """Every request so far."""
        self.most_at_once = 0
        """Most chart requests that were ever being answered together."""
        self.seconds = seconds
        self._listings: dict[str, Listing] = {}
        self._answers: dict[str, deque[Answer]] = {}
        self._at_once = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """What `TAPESCALE_YAHOO` is set to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """From here on connections are refused."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def add(
        self,
        symbol: str,
        bars: pd.DataFrame,
        *,
        dividends: Mapping[str, float] | None = None,
        splits: Mapping[str, float] | None = None,
        capital_gains: Mapping[str, float] | None = None,
        kind: str = "EQUITY",
        exchange: str = "NYQ",
        currency: str = "USD",
        timezone: str = "America/New_York",
        last_bar_at: str = "",
        jitter: bool = False,
    ) -> None:
        """List a symbol, or replace it: bars less a day miss a session, other prices are a revised history.

        Prices are taken to be split-adjusted already, as Yahoo's are: a split is an event only.
        """
        self._listings[symbol] = Listing(
            symbol=symbol,
            bars=bars,
            dividends=dividends or {},
            splits=splits or {},
            capital_gains=capital_gains or {},
            kind=kind,
            exchange=exchange,
            currency=currency,
            timezone=timezone,
            last_bar_at=last_bar_at,
            jitter=jitter,
        )

    def answer(self, symbol: str, answer: Answer, *, times: int = 1) -> None:
        """Give this answer to the next chart requests for the symbol."""
        self._answers.setdefault(symbol, deque()).extend([answer] * times)

    def charts(self, symbol: str) -> list[Seen]:
        """Chart requests for a symbol so far."""
        return [seen for seen in self.seen if seen.path == CHART + symbol]

    def respond(self, seen: Seen) -> Answer:
        """The answer to any request of the client."""
        self.seen.append(seen)
        if seen.path.startswith(CHART):
            with self._lock:
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
            try:
                return self._chart(seen)
            finally:
                with self._lock:
                    self._at_once -= 1
        return _formalities(seen)

    def _chart(self, seen: Seen) -> Answer:
        symbol = seen.path.removeprefix(CHART)
        scripted = self._answers.get(symbol)
        answer = scripted.popleft() if scripted else Answer()
        self._closed.wait(self.seconds + answer.seconds)
        if answer.status != 200 or answer.body:
            where = {
                name: text.format(path=quote(f"{seen.path}?{urlencode(seen.query)}", safe=""))
                for name, text in answer.headers.items()
            }
            return Answer(status=answer.status, body=answer.body, headers=where)
        status, chart = self._true_chart(symbol, seen.query)
        _lose(chart, answer.without)
        return Answer(status=status, body=json.dumps(chart), headers={"Content-Type": "application/json"})

    def _true_chart(self, symbol: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        listing = self._listings.get(symbol)
        if listing is None:
            return 404, {"chart": {"result": None, "error": NO_SUCH_SYMBOL}}
        start, end = float(query.get("period1", listing.stamps[-1])), float(query.get("period2", time.time()))
        if end <= listing.stamps[0] or start > listing.stamps[-1]:
            gone = f"Data doesn't exist for startDate = {start:.0f}, endDate = {end:.0f}"
            return 400, {"chart": {"result": None, "error": {"code": "Bad Request", "description": gone}}}
        return 200, listing.chart(start, end, noise=len(self.charts(symbol)) % 3 if listing.jitter else 0)


@contextmanager
def fresh_yahoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[YahooServer]:
    """A server for tests in this process: yfinance meets it as if it had never been used."""
    _forget_everything()
    with YahooServer() as server:
        monkeypatch.setenv("TAPESCALE_YAHOO", server.url)
        yield server
    _forget_everything()


def _forget_everything() -> None:
    """yfinance keeps one client, its cookie and crumb, answers and time zones; none of it has a public way out."""
    yfinance.data.SingletonMeta._instances.clear()
    yfinance.data.YfData.cache_get.cache_clear()
    yfinance.cache._TzCacheManager._tz_cache = None
    yfinance.cache._CookieCacheManager._Cookie_cache = None
    yfinance.base._tz_info_fetch_ctr = 0
    session.session_for.cache_clear()
    session._private_cache_folder.cache_clear()


def _formalities(seen: Seen) -> Answer:
    done = seen.query.get("done", "/consent")
    if seen.host == "fc.yahoo.com":
        cookie = "A3=d=AQABBA; Max-Age=31557600; Domain=.yahoo.com; Path=/; SameSite=None; Secure; HttpOnly"
        return Answer(status=404, body="<html></html>", headers={"Set-Cookie": cookie})
    if seen.path == "/v1/test/getcrumb":
        return Answer(body="cRuMb.123/x")
    if seen.path == "/v2/collectConsent":
        return Answer(status=302, headers={"Location": f"https://query2.finance.yahoo.com{done}"})
    if seen.path in ("/consent", "/v2/consent"):
        fields = "".join(f'<input type="hidden" name="{name}" value="1">' for name in ("csrfToken", "sessionId"))
        return Answer(
            body=f'<html><form method="post" action="/v2/collectConsent?done={quote(done, safe="")}">{fields}</form></html>'
        )
    if seen.path == "/copyConsent":
        return Answer(body="ok")
    return Answer(status=404, body=json.dumps({"finance": {"result": None, "error": NO_SUCH_SYMBOL}}))


def _lose(chart: Any, path: tuple[str | int, ...]) -> None:
    if path:
        for step in path[:-1]:
            chart = chart[step]
        del chart[path[-1]]


def _handler_of(server: YahooServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = urlsplit(self.path)
            answer = server.respond(
                Seen(
                    host=self.headers.get("X-Original-Host", ""),
                    method=self.command,
                    path=unquote(asked.path),
                    query={name: values[0] for name, values in parse_qs(asked.query).items()},
                    target=self.path,
                )
            )
            try:
                self._send(answer)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def _send(self, answer: Answer) -> None:
            body = answer.body.encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "text/html", **answer.headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
