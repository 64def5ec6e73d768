"""Failures of a request to Yahoo, classified by Yahoo's answer, and what to do about each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from curl_cffi.requests import Response
from curl_cffi.requests.exceptions import RequestException, Timeout

MEMBERS = (
    ("meta", "exchangeTimezoneName"),
    ("meta", "instrumentType"),
    ("meta", "currency"),
    ("timestamp",),
    *(("indicators", "quote", 0, column) for column in ("open", "high", "low", "close", "volume")),
)
"""Members of a chart's result that parsing needs."""
DETAIL_WIDTH = 120
"""Largest length of an error's detail, in characters."""


class Fault(Enum):
    """A class of failures: title, number of retries, and instruction for the user."""

    UNKNOWN_SYMBOL = ("unknown symbol", 0, "check it on finance.yahoo.com")
    NO_BARS = ("no bars", 0, "give another START or END")
    RATE_LIMIT = ("rate limit", 4, "wait a quarter of an hour and run again, or give fewer symbols")
    TRANSIENT = ("Yahoo unreachable", 4, "check the network and run again")
    TIMEOUT = ("timeout", 2, "run again, with a longer --timeout")
    SCHEMA = ("unexpected answer", 1, "open finance.yahoo.com in a browser; if it works there, upgrade yfinance")

    def __init__(self, title: str, retries: int, fix: str) -> None:
        self.title = title
        self.retries = retries
        self.fix = fix


@dataclass(frozen=True, kw_only=True)
class YahooFailure:
    """The failure of one symbol."""

    fault: Fault
    detail: str
    """Message of Yahoo or of the network."""
    retry_after: float | None = None
    """Seconds that Yahoo asks to wait."""

    def sentence(self, symbol: str) -> str:
        """Return the failure as a sentence for the user."""
        wait = "" if self.retry_after is None else f", Yahoo asks to wait {self.retry_after:,.0f} seconds"
        return f"{symbol}: {self.fault.title} ({self.detail}{wait}); {self.fault.fix}."


def classify_failure(error: Exception, answer: Response | None) -> YahooFailure | None:
    """Classify by the last chart answer, else by the exception; return None if the error is not Yahoo's or the network's."""
    failure = None if answer is None else _failure_in_answer(answer)
    if failure is not None:
        return failure
    if isinstance(error, RequestException):
        detail = _first_line(str(error).removeprefix("Failed to perform, ").split(". See http")[0])
        return YahooFailure(fault=Fault.TIMEOUT if isinstance(error, Timeout) else Fault.TRANSIENT, detail=detail)
    return None


def _failure_in_answer(answer: Response) -> YahooFailure | None:
    status = answer.status_code
    detail = f"HTTP {status}: {_first_line(answer.text)}"
    if status == 429:
        seconds = answer.headers.get("Retry-After", "")
        retry_after = float(seconds) if seconds.replace(".", "", 1).isdigit() else None
        return YahooFailure(fault=Fault.RATE_LIMIT, detail=detail, retry_after=retry_after)
    if status >= 500 or status in (401, 403) or "Will be right back" in answer.text:
        return YahooFailure(fault=Fault.TRANSIENT, detail=detail)
    try:
        chart = json.loads(answer.text)["chart"]
        error, results = chart["error"], chart["result"]
    except (ValueError, TypeError, KeyError):
        return YahooFailure(fault=Fault.SCHEMA, detail=f"{detail} instead of a chart")
    if not error:
        return _failure_in_result(results[0] if results else {})
    detail = _first_line(str(error.get("description", error)))
    if status == 404 or error.get("code") == "Not Found":
        return YahooFailure(fault=Fault.UNKNOWN_SYMBOL, detail=detail)
    fault = Fault.NO_BARS if "Data doesn't exist" in detail else Fault.SCHEMA
    return YahooFailure(fault=fault, detail=f"HTTP {status}: {detail}")


def _failure_in_result(result: dict[str, Any]) -> YahooFailure | None:
    if "meta" in result and "timestamp" not in result and not _member(result, ("indicators", "quote", 0)):
        return YahooFailure(fault=Fault.NO_BARS, detail="the period has no session")
    missing = [path for path in MEMBERS if _member(result, path) is None]
    if not missing:
        return None
    return YahooFailure(fault=Fault.SCHEMA, detail=f"the chart has no {'.'.join(map(str, missing[0]))}")


def _member(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _first_line(text: str) -> str:
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= DETAIL_WIDTH else line[:DETAIL_WIDTH] + "…"
