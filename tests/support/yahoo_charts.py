"""The charts that the stand-in for Yahoo sends, and valid bars to put into them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What the server has of one symbol. NaN prices of a bar are sent as null, as Yahoo does."""

    symbol: str
    bars: pd.DataFrame
    dividends: Mapping[str, float]
    splits: Mapping[str, float]
    capital_gains: Mapping[str, float]
    kind: str
    exchange: str
    currency: str
    timezone: str
    last_bar_at: str
    """Local time of the last bar in an open session (`11:23`); empty where that session is closed."""
    jitter: bool
    """Adj Close differs in the 7th digit from one request to the next."""

    @cached_property
    def stamps(self) -> list[int]:
        """Unix seconds of each bar: the session's opening, or midnight where there is none."""
        opening = "00:00" if self.kind in ("CURRENCY", "CRYPTOCURRENCY") else "09:30"
        stamps = [self.stamp(day, opening) for day in self.bars.index]
        return [*stamps[:-1], self.stamp(self.bars.index[-1], self.last_bar_at)] if self.last_bar_at else stamps

    def stamp(self, day: Any, clock: str) -> int:
        return int(pd.Timestamp(f"{pd.Timestamp(day):%Y-%m-%d} {clock}").tz_localize(self.timezone).timestamp())

    @cached_property
    def adj_close(self) -> list[float]:
        """Yahoo's rule written out: each dividend scales all bars before it by 1 - dividend / the close before."""
        close = self.bars["close"].tolist()
        days = [f"{day:%Y-%m-%d}" for day in self.bars.index]
        adjusted, factor = list(close), 1.0
        for row in range(len(close) - 1, -1, -1):
            adjusted[row] = close[row] * factor
            if row and days[row] in self.dividends:
                factor *= 1 - self.dividends[days[row]] / close[row - 1]
        return adjusted

    def chart(self, start: float, end: float, noise: float) -> dict[str, Any]:
        """The answer for bars with start <= time < end."""
        rows = [row for row, stamp in enumerate(self.stamps) if start <= stamp < end]
        result: dict[str, Any] = {"meta": self._meta(), "indicators": {"quote": [{}], "adjclose": [{}]}}
        if rows:
            quote = {column: _numbers(self.bars[column].iloc[rows]) for column in ("open", "high", "low", "close", "volume")}
            scale = 1 + 1e-7 * noise
            adjusted = [None if self.adj_close[row] != self.adj_close[row] else self.adj_close[row] * scale for row in rows]
            result["timestamp"] = [self.stamps[row] for row in rows]
            result["indicators"] = {"quote": [quote], "adjclose": [{"adjclose": adjusted}]}
        if events := self._events(start, end):
            result["events"] = events
        return {"chart": {"result": [result], "error": None}}

    def _events(self, start: float, end: float) -> dict[str, Any]:
        dividends = {self.stamp(day, "09:30"): amount for day, amount in self.dividends.items()}
        splits = {self.stamp(day, "09:30"): ratio for day, ratio in self.splits.items()}
        gains = {self.stamp(day, "09:30"): amount for day, amount in self.capital_gains.items()}
        found = {
            "dividends": {str(at): {"amount": amount, "date": at} for at, amount in dividends.items() if start <= at < end},
            "capitalGains": {str(at): {"amount": amount, "date": at} for at, amount in gains.items() if start <= at < end},
            "splits": {
                str(at): {"date": at, "numerator": ratio, "denominator": 1.0, "splitRatio": f"{ratio:g}:1"}
                for at, ratio in splits.items()
                if start <= at < end
            },
        }
        return {name: events for name, events in found.items() if events}

    def _meta(self) -> dict[str, Any]:
        last = self.bars.index[-1]
        offset = int(pd.Timestamp(last).tz_localize(self.timezone).utcoffset().total_seconds())
        zone = pd.Timestamp(last).tz_localize(self.timezone).strftime("%Z")
        period = {
            name: {"timezone": zone, "start": self.stamp(last, start), "end": self.stamp(last, end), "gmtoffset": offset}
            for name, start, end in (("pre", "04:00", "09:30"), ("regular", "09:30", "16:00"), ("post", "16:00", "20:00"))
        }
        return {
            "currency": self.currency,
            "symbol": self.symbol,
            "exchangeName": self.exchange,
            "fullExchangeName": self.exchange,
            "instrumentType": self.kind,
            "firstTradeDate": self.stamps[0],
            "regularMarketTime": self.stamp(last, self.last_bar_at or "16:00"),
            "hasPrePostMarketData": True,
            "gmtoffset": offset,
            "timezone": zone,
            "exchangeTimezoneName": self.timezone,
            "regularMarketPrice": float(self.bars["close"].ffill().iloc[-1]),
            "priceHint": 2,
            "currentTradingPeriod": period,
            "dataGranularity": "1d",
            "range": "",
            "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
        }


def _numbers(values: pd.Series) -> list[float | int | None]:
    whole = values.name == "volume"
    return [None if value != value else int(value) if whole else float(value) for value in values]


def session_bars(start: str, end: str, *, calendar: str = "XNYS", seed: int = 0, price: float = 100.0) -> pd.DataFrame:
    """A valid random walk with cents as prices, one bar per session of an exchange; the same for the same seed."""
    days = exchange_calendars.get_calendar(calendar, start=start, end=end).sessions
    rng = np.random.default_rng(seed)
    close = np.round(price * np.exp(np.cumsum(rng.normal(0, 0.01, len(days)))), 2)
    open_ = np.round(close * np.exp(rng.normal(0, 0.005, len(days))), 2)
    spread = np.abs(rng.normal(0, 0.005, (2, len(days))))
    high = np.round(np.maximum(open_, close) * (1 + spread[0]) + 0.01, 2)
    low = np.round(np.minimum(open_, close) * (1 - spread[1]) - 0.01, 2)
    volume = rng.integers(1_000, 1_000_000, len(days)).astype(np.float64)
    columns = {"open": open_, "high": high, "low": low, "close": close, "volume": volume}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(days.to_numpy(), name="date"))
