"""What can go wrong between us and Yahoo, told apart by what Yahoo answered, and what to do about each."""

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
"""What a chart's result must have for bars to be read from it."""


class Fault(Enum):
    """A class of failure: (its name, how often it is worth another attempt, what to do)."""

    UNKNOWN_SYMBOL = ("unknown symbol", 0, "check it on finance.yahoo.com")
    NO_BARS = ("no bars", 0, "give another START or END")
    RATE_LIMIT = ("rate limit", 4, "wait a quarter of an hour and run again, or ask for fewer symbols")
    TRANSIENT = ("Yahoo unreachable", 4, "look at the network and run again")
    TIMEOUT = ("timeout", 2, "run again, with a longer --timeout")
    SCHEMA = ("answer not understood", 1, "look at finance.yahoo.com in a browser; if it works there, upgrade yfinance")

    def __init__(self, title: str, retries: int, fix: str) -> None:
        self.title = title
        self.retries = retries
        self.fix = fix


@dataclass(frozen=True, kw_only=True)
class YahooFailure:
    """Why one symbol's bars did not come."""

    fault: Fault
    said: str
    """Yahoo's own words, or those of the network."""
    retry_after: float | None = None
    """Seconds Yahoo asks us to wait."""

    def sentence(self, symbol: str) -> str:
        """For the user."""
        wait = "" if self.retry_after is None else f", Yahoo asks to wait {self.retry_after:,.0f} seconds"
        return f"{symbol}: {self.fault.title} ({self.said}{wait}); {self.fault.fix}."


def classify_failure(error: Exception, answer: Response | None) -> YahooFailure | None:
    """Classify by the last chart answer, else by the exception; None for what is no failure of Yahoo's."""
    failure = None if answer is None else _failure_in(answer)
    if failure is not None:
        return failure
    if isinstance(error, Timeout):
        return YahooFailure(fault=Fault.TIMEOUT, said=_words(error))
    if isinstance(error, RequestException):
        return YahooFailure(fault=Fault.TRANSIENT, said=_words(error))
    return None


def _failure_in(answer: Response) -> YahooFailure | None:
    status = answer.status_code
    said = f"HTTP {status}: {_first_line(answer.text)}"
    if status == 429:
        return YahooFailure(fault=Fault.RATE_LIMIT, said=said, retry_after=_seconds(answer.headers.get("Retry-After", "")))
    if status >= 500 or status in (401, 403) or "Will be right back" in answer.text:
        return YahooFailure(fault=Fault.TRANSIENT, said=said)
    try:
        chart = json.loads(answer.text)["chart"]
        error, results = chart["error"], chart["result"]
    except (ValueError, TypeError, KeyError):
        return YahooFailure(fault=Fault.SCHEMA, said=f"{said} where a chart was expected")
    if error:
        return _failure_said(status, error)
    return _failure_of_result(results[0] if results else {})


def _failure_said(status: int, error: dict[str, Any]) -> YahooFailure:
    said = _first_line(str(error.get("description", error)))
    if status == 404 or error.get("code") == "Not Found":
        return YahooFailure(fault=Fault.UNKNOWN_SYMBOL, said=said)
    fault = Fault.NO_BARS if "Data doesn't exist" in said else Fault.SCHEMA
    return YahooFailure(fault=fault, said=f"HTTP {status}: {said}")


def _failure_of_result(result: dict[str, Any]) -> YahooFailure | None:
    if "meta" in result and "timestamp" not in result and not _member(result, ("indicators", "quote", 0)):
        return YahooFailure(fault=Fault.NO_BARS, said="the period has no session")
    lost = [path for path in MEMBERS if _member(result, path) is None]
    if not lost:
        return None
    return YahooFailure(fault=Fault.SCHEMA, said=f"the chart has no {'.'.join(map(str, lost[0]))}")


def _member(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _seconds(text: str) -> float | None:
    return float(text) if text.replace(".", "", 1).isdigit() else None


def _words(error: Exception) -> str:
    return _first_line(str(error).removeprefix("Failed to perform, ").split(". See http")[0])


def _first_line(text: str, most: int = 120) -> str:
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= most else line[:most] + "…"
