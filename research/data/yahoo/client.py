"""Daily bars of Yahoo Finance through yfinance: all symbols of a request, or none and the reasons.

Terms: Yahoo's data are for personal use. They may be kept on one's own disk, not passed on.
`TAPESCALE_YAHOO=http://host:port` sends every request to a mirror; see `research.data.yahoo.session`.

yfinance by itself asks once more, with other cookies, after a status of 400 and above; each attempt here is such a pair.
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
"""Hears, while a request is under way, of each symbol that came (debug) and of each wait (info)."""

CONCURRENT_SYMBOLS = 2
"""Symbols asked for at the same time; Yahoo answers 429 to more."""
EARLIEST = date(1927, 1, 1)
"""Before the first bar that Yahoo has of anything."""
LICENCE = "Yahoo's terms of service: personal use only, not for redistribution"
DEFAULT_TIMEOUT = 30.0
LONGEST_WAIT = 120.0
"""Seconds; when Yahoo asks for more the request ends and says so."""

# An ISIN would make yfinance look for a symbol of its own choice.
SYMBOL = re.compile(r"(?![A-Z]{2}[A-Z0-9]{9}\d$)[\^A-Z0-9.=-]+")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How failed attempts are spaced."""

    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = field(default_factory=lambda: random.Random().random)
    """A number in [0, 1), so that two symbols do not come back together."""
    first: float = 1.0
    """Seconds before the second attempt; doubled each time."""

    def seconds(self, attempt: int, failure: YahooFailure) -> float:
        """At least what Yahoo asks for, else a doubling wait; up to half as much again by chance."""
        planned = self.first * 2 ** (attempt - 1) if failure.retry_after is None else failure.retry_after
        return planned * (1 + self.jitter() / 2)


def fetch(request: Request, retry: RetryPolicy | None = None) -> SourceBars:
    """Daily bars of every symbol of the request; one `InputError` names all that failed, and then nothing is returned."""
    _check(request)
    mirror = mirror_from_environment()
    session = session_for(mirror, _timeout(request))
    results = _fetch_all(request, session, retry or RetryPolicy())
    failures = [outcome.sentence(symbol) for symbol, outcome in results.items() if isinstance(outcome, YahooFailure)]
    if failures:
        count = f"{len(failures)} of {len(results)} symbols failed, nothing was taken"
        raise InputError("\n".join([f"SYMBOLS={','.join(request.symbols)}: {count}.", *failures]))
    delivered = {symbol: outcome for symbol, outcome in results.items() if isinstance(outcome, YahooBars)}
    mirrored = [f"Requests went to {mirror} ({MIRROR_VARIABLE}) and not to Yahoo itself."] if mirror else []
    return SourceBars(
        source="yahoo",
        bars={symbol: outcome.bars for symbol, outcome in delivered.items()},
        request=_as_text(request),
        licence=LICENCE,
        versions={package: version(package) for package in ("yfinance", "curl_cffi")},
        instruments={symbol: outcome.instrument for symbol, outcome in delivered.items()},
        notes=mirrored + [note for outcome in delivered.values() for note in outcome.notes],
    )


def _fetch_all(request: Request, session: YahooSession, retry: RetryPolicy) -> dict[str, YahooBars | YahooFailure]:
    """Every symbol to its end, whether others fail or not."""

    def outcome(symbol: str) -> YahooBars | YahooFailure:
        return _fetch_with_retries(symbol, request, session, retry)

    # The first one alone: yfinance creates its cache files on first use, and two threads doing so lock each other out.
    first, *others = request.symbols
    with _outspoken_yfinance(), ThreadPoolExecutor(CONCURRENT_SYMBOLS) as pool:
        return {first: outcome(first), **dict(zip(others, pool.map(outcome, others), strict=True))}


def _check(request: Request) -> None:
    named = ",".join(request.symbols)
    require(bool(request.symbols), "SYMBOLS", named, "name instruments as Yahoo does, for example SPY,QQQ,^VIX.")
    require(len(set(request.symbols)) == len(request.symbols), "SYMBOLS", named, "give each instrument once.")
    for symbol in request.symbols:
        fix = "give a symbol of Yahoo's in capitals, for example SPY or ^VIX."
        require(SYMBOL.fullmatch(symbol) is not None, "SYMBOLS", symbol, fix)
    start, end = request.start, request.end
    if start is not None:
        require(start <= date.today(), "START", start, "give a day that is not in the future.")
        require(end is None or start <= end, "START", start, f"give a day that is not after END={end}.")
    require(end is None or end >= EARLIEST, "END", end, f"give a day after {EARLIEST}.")


def _timeout(request: Request) -> float:
    text = request.settings.get("timeout", str(DEFAULT_TIMEOUT))
    fix = "give a positive number of seconds."
    try:
        seconds = float(text)
    except ValueError:
        raise InputError(f"TIMEOUT={text}: {fix}") from None
    require(0 < seconds < float("inf"), "TIMEOUT", text, fix)
    return seconds


def _as_text(request: Request) -> dict[str, str]:
    return {
        "symbols": ",".join(request.symbols),
        "start": str(request.start or "earliest"),
        "end": str(request.end or "newest"),
        "interval": "1d",
    }


@contextmanager
def _outspoken_yfinance() -> Iterator[None]:
    """Exceptions instead of empty tables and log lines; no warnings about yfinance's use of pandas."""
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


def _fetch_with_retries(
    symbol: str, request: Request, session: YahooSession, patience: RetryPolicy
) -> YahooBars | YahooFailure:
    attempt = 0
    while True:
        attempt += 1
        _clear_response_cache()
        session.forget()
        try:
            outcome = _fetch_once(symbol, request, session)
            logger.debug("%s came", symbol)
            return outcome
        except Exception as error:
            failure = classify_failure(error, session.chart_answer)
            if failure is None:
                raise
        if attempt > failure.fault.retries or (failure.retry_after or 0) > LONGEST_WAIT:
            return failure
        seconds = retry.seconds(attempt, failure)
        logger.info("%s: %s (%s); asking again in %.0f s", symbol, failure.fault.title, failure.said, seconds)
        retry.sleep(seconds)


def _clear_response_cache() -> None:
    """Yfinance keeps answers to requests for the past, errors too, and would repeat them for the life of the process.

    The one thing used here that yfinance does not document.
    """
    YfData.cache_get.cache_clear()


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
    assert answer is not None, "the response cache was cleared, so history asked Yahoo"
    delivered = parse_history(symbol, history, ticker.history_metadata, answer.text)
    return YahooFailure(fault=Fault.NO_BARS, said="no row has quotes") if delivered.bars.empty else delivered
