"""Parsing of yfinance's table: columns, the exchange's dates, the instrument, and notes on what was changed.

yfinance silently changes two things, which become notes here. Of two rows of one day it keeps the first (for the last day
the second), and it moves an event of a day without a row to the row before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.data.bars import PRICES
from research.data.sources import Instrument, Kind

CALENDARS = {
    **dict.fromkeys(("NYQ", "NMS", "PCX", "NGM", "NCM", "ASE", "BTS", "SNP", "DJI", "NIM", "CBO", "WCB", "CGI"), "XNYS"),
    "LSE": "XLON",
    "TOR": "XTSE",
    "GER": "XETR",
    "PAR": "XPAR",
    "AMS": "XAMS",
    "JPX": "XTKS",
    "OSA": "XTKS",
    "HKG": "XHKG",
    "CCC": "24/7",
    "CCY": "24/5",
}
"""Calendar in exchange-calendars by Yahoo's exchange."""

KINDS: dict[str, Kind] = {
    "INDEX": "index",
    "ETF": "fund",
    "MUTUALFUND": "fund",
    "EQUITY": "stock",
    "CURRENCY": "currency",
    "CRYPTOCURRENCY": "crypto",
}
"""Our kind of instrument by Yahoo's instrument type."""

COLUMNS = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Volume": "volume",
    "Dividends": "dividends",
    "Stock Splits": "splits",
    "Adj Close": "adj_close",
}


@dataclass(frozen=True, kw_only=True)
class YahooBars:
    """Bars of one symbol as Yahoo sent them."""

    bars: pd.DataFrame
    instrument: Instrument
    notes: list[str]
    """One sentence per change that was made to the bars."""


def parse_history(symbol: str, history: pd.DataFrame, meta: Any, chart: str) -> YahooBars:
    """Return bars and instrument from yfinance's `history`, its metadata, and the JSON text of Yahoo's chart."""
    bars = history[list(COLUMNS)].rename(columns=COLUMNS).astype("float64")
    # The index is the exchange's own date, which may differ from the UTC date.
    days = pd.DatetimeIndex(history.index).tz_localize(None).normalize()
    bars.index = pd.DatetimeIndex(days, name="date").as_unit("ns")
    exchange = str(meta.get("exchangeName") or "")
    notes = [*_silent_changes(json.loads(chart)["chart"]["result"][0], pd.DatetimeIndex(history.index).tz)]
    quoted = bars[PRICES].notna().all(axis=1).to_numpy()
    if not quoted.all():
        notes.append(f"Yahoo has no quotes on {_listed(bars.index[~quoted])}; these rows were dropped.")
    if "Capital Gains" in history and (paid := history["Capital Gains"] != 0).any():
        notes.append(f"capital gains were distributed on {_listed(history.index[paid])}; the dividends do not include them.")
    if exchange not in CALENDARS:
        notes.append(f"the exchange {exchange or 'without a name'} has no known calendar; sessions are not checked.")
    return YahooBars(
        bars=_with_quotes(bars, quoted),
        instrument=Instrument(
            calendar=CALENDARS.get(exchange, ""),
            kind=KINDS.get(str(meta.get("instrumentType")), "other"),
            currency=str(meta.get("currency") or ""),
        ),
        notes=[f"{symbol}: {note}" for note in notes],
    )


def _with_quotes(bars: pd.DataFrame, quoted: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the bars with quotes; a dividend or split of a dropped row moves to the next remaining one."""
    kept = bars[quoted].copy()
    for day, event in bars.loc[~quoted, ["dividends", "splits"]].iterrows():
        later = kept.index[kept.index > day]
        if len(later):
            kept.loc[later[0], "dividends"] += event["dividends"]
            kept.loc[later[0], "splits"] = event["splits"] or kept.loc[later[0], "splits"]
    return kept


def _silent_changes(result: dict[str, Any], zone: Any) -> Iterable[str]:
    """Yield a note on everything in the chart that is not in yfinance's table."""
    days = _days(result["timestamp"], zone)
    # Yahoo always sends the bar of an open session twice.
    if len(repeated := days[:-1][days[:-1].duplicated()]):
        yield f"Yahoo sent two rows for {_listed(repeated)}; the first was kept."
    events = result.get("events", {})
    stamps = [event["date"] for name in ("dividends", "splits") for event in events.get(name, {}).values()]
    moved = [day for day in _days(stamps, zone) if days[0] <= day <= days[-1] and day not in days]
    if moved:
        yield f"a dividend or split of {_listed(moved)}, where Yahoo has no row, is on the row before."


def _days(stamps: list[int], zone: Any) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(stamps, unit="s", utc=True).tz_convert(zone).normalize())


def _listed(days: Iterable[Any]) -> str:
    return ", ".join(f"{day:%Y-%m-%d}" for day in days)
