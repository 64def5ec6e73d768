"""From yfinance's table to our bars: columns, the exchange's dates, what kind of instrument it is, what had to be dropped.

yfinance hides two oddities, which become notes: of two rows of one day it keeps the first (of the last day the second),
and an event of a day without a row it puts on the row before.
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
"""Yahoo's exchange -> calendar in exchange-calendars."""

KINDS: dict[str, Kind] = {
    "INDEX": "index",
    "ETF": "fund",
    "MUTUALFUND": "fund",
    "EQUITY": "stock",
    "CURRENCY": "currency",
    "CRYPTOCURRENCY": "crypto",
}
"""Yahoo's instrument type -> ours."""

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
    """What came for one symbol."""

    bars: pd.DataFrame
    instrument: Instrument
    notes: list[str]
    """What was done to the bars, one sentence each."""


def parse_history(symbol: str, history: pd.DataFrame, meta: Any, chart: str) -> YahooBars:
    """Bars and instrument out of `history`, its metadata, and the text of the chart that yfinance read them from."""
    everything = _canonical(history)
    exchange = str(meta.get("exchangeName") or "")
    notes = [*_hidden(json.loads(chart)["chart"]["result"][0], pd.DatetimeIndex(history.index).tz)]
    quoted = everything[PRICES].notna().all(axis=1).to_numpy()
    if not quoted.all():
        notes.append(f"Yahoo has no quotes on {_listed(everything.index[~quoted])}; these rows were dropped.")
    if "Capital Gains" in history and (paid := history["Capital Gains"] != 0).any():
        notes.append(f"capital gains were distributed on {_listed(history.index[paid])}; they are not among the dividends.")
    if exchange not in CALENDARS:
        notes.append(f"the exchange {exchange or 'without a name'} has no known calendar; sessions are not checked.")
    return YahooBars(
        bars=_with_quotes(everything, quoted),
        instrument=Instrument(
            calendar=CALENDARS.get(exchange, ""),
            kind=KINDS.get(str(meta.get("instrumentType")), "other"),
            currency=str(meta.get("currency") or ""),
        ),
        notes=[f"{symbol}: {note}" for note in notes],
    )


def _canonical(history: pd.DataFrame) -> pd.DataFrame:
    """Our columns; the index is the exchange's own date, which may differ from the UTC one."""
    bars = history[list(COLUMNS)].rename(columns=COLUMNS).astype("float64")
    days = pd.DatetimeIndex(history.index).tz_localize(None).normalize()
    bars.index = pd.DatetimeIndex(days, name="date").as_unit("ns")
    return bars


def _with_quotes(bars: pd.DataFrame, quoted: NDArray[np.bool_]) -> pd.DataFrame:
    """Bars less the rows with a null price; a dividend or split of such a row goes to the next bar there is."""
    kept = bars[quoted].copy()
    for day, event in bars.loc[~quoted, ["dividends", "splits"]].iterrows():
        later = kept.index[kept.index > day]
        if len(later):
            kept.loc[later[0], "dividends"] += event["dividends"]
            kept.loc[later[0], "splits"] = event["splits"] or kept.loc[later[0], "splits"]
    return kept


def _hidden(result: dict[str, Any], zone: Any) -> Iterable[str]:
    """What is in the chart and no longer in yfinance's table."""
    days = _days(result["timestamp"], zone)
    # Of an open session Yahoo sends the bar twice as a matter of course.
    if len(twice := days[:-1][days[:-1].duplicated()]):
        yield f"Yahoo sent two rows for {_listed(twice)}; the first was kept."
    events = result.get("events", {})
    dates = [event["date"] for name in ("dividends", "splits") for event in events.get(name, {}).values()]
    inside = [day for day in _days(dates, zone) if days[0] <= day <= days[-1] and day not in days]
    if inside:
        yield f"a dividend or split of {_listed(inside)}, where Yahoo has no row, is on the row before."


def _days(stamps: list[int], zone: Any) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(stamps, unit="s", utc=True).tz_convert(zone).normalize())


def _listed(days: Iterable[Any]) -> str:
    return ", ".join(f"{day:%Y-%m-%d}" for day in days)
