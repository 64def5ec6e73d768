"""Daily bars of Yahoo Finance through yfinance: all symbols of a request, or an error with the reasons.

Terms: Yahoo's data are for personal use. They may be kept on the user's disk but not redistributed.
`TAPESCALE_YAHOO=http://host:port` sends every request to a mirror; see `research.data.yahoo.session`.

yfinance itself repeats a request once, with other cookies, after a status of 400 and above; each attempt here is such a pair.
"""

from __future__ import annotations

import logging
import random
import re
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib.metadata import version

import yfinance
from yfinance.data import YfData

from research.data.sources import Request, SourceBars
from research.data.yahoo.bars import YahooBars, parse_history
from research.data.yahoo.errors import Fault, YahooFailure, classify_failure
from research.data.yahoo.session import MIRROR_VARIABLE, YahooSession, mirror_from_environment, session_for
from research.errors import InputError, require

logger = logging.getLogger(__name__)
"""Logger of a request in progress: each received symbol at level debug, each wait at level info."""

CONCURRENT_SYMBOLS = 2
"""Number of symbols fetched at the same time; Yahoo answers 429 to more."""
EARLIEST = date(1927, 1, 1)
"""Day before the first bar that Yahoo has of any symbol."""
LICENCE = "Yahoo's terms of service: personal use only, not for redistribution"
DEFAULT_TIMEOUT = 30.0
LONGEST_WAIT = 120.0
"""Longest wait in seconds; if Yahoo asks for more, the request fails."""

# yfinance would resolve an ISIN to a symbol of its own choice.
SYMBOL = re.compile(r"(?![A-Z]{2}[A-Z0-9]{9}\d$)[\^A-Z0-9.=-]+")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Waiting times between attempts."""

    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = field(default_factory=lambda: random.Random().random)
    """Random number in [0, 1), so that two symbols do not retry together."""
    first: float = 1.0
    """Seconds before the second attempt; doubled each time."""

    def seconds(self, attempt: int, failure: YahooFailure) -> float:
        """Return Yahoo's Retry-After, else a doubling wait, plus up to half of it at random."""
        planned = self.first * 2 ** (attempt - 1) if failure.retry_after is None else failure.retry_after
        return planned * (1 + self.jitter() / 2)


def fetch(request: Request, retry: RetryPolicy | None = None) -> SourceBars:
    """Return daily bars of every symbol; if any symbol fails, raise one `InputError` with all failures."""
    timeout = _checked_timeout(request)
    mirror = mirror_from_environment()
    session = session_for(mirror, timeout)
    results = _fetch_all(request, session, retry or RetryPolicy())
    symbols = ",".join(request.symbols)
    failures = [result.sentence(symbol) for symbol, result in results.items() if isinstance(result, YahooFailure)]
    if failures:
        count = f"{len(failures)} of {len(results)} symbols failed, nothing was stored"
        raise InputError("\n".join([f"SYMBOLS={symbols}: {count}.", *failures]))
    received = {symbol: result for symbol, result in results.items() if isinstance(result, YahooBars)}
    mirrored = [f"Requests went to the mirror {mirror} ({MIRROR_VARIABLE}), not to Yahoo."] if mirror else []
    return SourceBars(
        source="yahoo",
        bars={symbol: result.bars for symbol, result in received.items()},
        request={
            "symbols": symbols,
            "start": str(request.start or "earliest"),
            "end": str(request.end or "newest"),
            "interval": "1d",
        },
        licence=LICENCE,
        versions={package: version(package) for package in ("yfinance", "curl_cffi")},
        instruments={symbol: result.instrument for symbol, result in received.items()},
        notes=mirrored + [note for result in received.values() for note in result.notes],
    )


def _fetch_all(request: Request, session: YahooSession, retry: RetryPolicy) -> dict[str, YahooBars | YahooFailure]:
    """Return the result of every symbol, whether others fail or not."""

    def result(symbol: str) -> YahooBars | YahooFailure:
        return _fetch_with_retries(symbol, request, session, retry)

    # The first symbol runs alone: yfinance creates its cache files on first use, and two threads would lock each other out.
    first, *others = request.symbols
    with _strict_yfinance(), ThreadPoolExecutor(CONCURRENT_SYMBOLS) as pool:
        return {first: result(first), **dict(zip(others, pool.map(result, others), strict=True))}


def _checked_timeout(request: Request) -> float:
    """Return the time limit in seconds; raise `InputError` if any part of the request is invalid."""
    symbols = ",".join(request.symbols)
    require(
        bool(request.symbols), "SYMBOLS", symbols, "no symbol is given; name instruments as Yahoo does, for example SPY,^VIX."
    )
    require(len(set(request.symbols)) == len(request.symbols), "SYMBOLS", symbols, "a symbol is repeated; give each once.")
    for symbol in request.symbols:
        fix = "not a Yahoo symbol; give one in capitals, for example SPY or ^VIX."
        require(SYMBOL.fullmatch(symbol) is not None, "SYMBOLS", symbol, fix)
    start, end = request.start, request.end
    if start is not None:
        require(start <= date.today(), "START", start, "this day is in the future; give an earlier one.")
        require(end is None or start <= end, "START", start, f"this day is after END={end}; give an earlier one.")
    require(end is None or end >= EARLIEST, "END", end, f"before all data; give a day after {EARLIEST}.")
    text = request.settings.get("timeout", str(DEFAULT_TIMEOUT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    require(0 < seconds < float("inf"), "TIMEOUT", text, "not a time limit; give a positive number of seconds.")
    return seconds


@contextmanager
def _strict_yfinance() -> Iterator[None]:
    """Make yfinance raise exceptions instead of logging errors and returning empty tables; hide its pandas warnings."""
    logger, debug = logging.getLogger("yfinance"), yfinance.config.debug
    level, hidden = logger.level, debug.hide_exceptions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        debug.hide_exceptions = False
        try:
            yield
        finally:
            logger.setLevel(level)
            debug.hide_exceptions = hidden


def _fetch_with_retries(symbol: str, request: Request, session: YahooSession, retry: RetryPolicy) -> YahooBars | YahooFailure:
    attempt = 0
    while True:
        attempt += 1
        # yfinance caches answers to requests for the past, including errors, for the life of the process. This call is
        # the only one here that yfinance does not document.
        YfData.cache_get.cache_clear()
        session.forget()
        try:
            result = _fetch_once(symbol, request, session)
            logger.debug("%s received", symbol)
            return result
        except Exception as error:
            failure = classify_failure(error, session.chart_answer)
            if failure is None:
                raise
        if attempt > failure.fault.retries or (failure.retry_after or 0) > LONGEST_WAIT:
            return failure
        seconds = retry.seconds(attempt, failure)
        logger.info("%s: %s (%s); retrying in %.0f s", symbol, failure.fault.title, failure.detail, seconds)
        retry.sleep(seconds)


def _fetch_once(symbol: str, request: Request, session: YahooSession) -> YahooBars | YahooFailure:
    ticker = yfinance.Ticker(symbol, session=session)
    history = ticker.history(
        start=max(request.start or EARLIEST, EARLIEST),
        # Yahoo's last day is the one before `end`.
        end=None if request.end is None else request.end + timedelta(days=1),
        interval="1d",
        auto_adjust=False,
        actions=True,
        keepna=True,
    )
    answer = session.chart_answer
    assert answer is not None, "the response cache was cleared, so history sent a request"
    result = parse_history(symbol, history, ticker.history_metadata, answer.text)
    return YahooFailure(fault=Fault.NO_BARS, detail="no row has quotes") if result.bars.empty else result
