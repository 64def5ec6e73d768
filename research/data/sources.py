"""Where bars come from. A source is one function from a `Request` to `SourceBars`; nothing falls back to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from typing import Literal

import pandas as pd

from research.errors import InputError

Kind = Literal["index", "fund", "stock", "currency", "crypto", "simulated", "other"]

SLUGS = {"^GSPC": "sp500", "^IXIC": "nasdaq"}
"""Names of instruments in experiments and models, where `^` may not stand."""

SOURCES = {
    "bundled": "research.data.bundled",
    "yahoo": "research.data.yahoo.client",
    "file": "research.data.file_source",
    "synthetic": "research.data.synthetic",
}
"""Every source by name, and the module whose `fetch` it is. Imported when asked for: a vendor's client takes seconds."""

NOT_BY_NAME = ("yahoo", "file")
"""Sources that `DATA=<name>` does not mean: one needs a network and symbols, the other a path."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a source, enough to ask again."""

    source: str
    """Name in `SOURCES`."""
    symbols: tuple[str, ...] = ()
    """Instruments; empty asks for all that the source has."""
    start: date | None = None
    """First day; the earliest there is if None."""
    end: date | None = None
    """Last day, itself included; the newest there is if None."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What only this source understands: a file's path and column names, a synthetic market's parameters."""


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """What a source knows of an instrument besides its bars."""

    calendar: str = ""
    """Exchange calendar by its name in exchange-calendars (`XNYS`, `24/7`); sessions are not checked if empty."""
    kind: Kind = "other"
    """An index or a currency may have no volume; a fund or a stock that traded has some. A simulated market knows no clock, no
    exchange and no vendor's mistakes."""
    currency: str = ""


@dataclass(frozen=True, kw_only=True)
class SourceBars:
    """What a source delivered, before validation.

    Prices and volume are adjusted for splits and not for dividends (as Yahoo's are): a split is no price move, a
    dividend is one until `research.data.dividend_adjustment.adjusted` takes it out.
    """

    source: str
    """Name said aloud everywhere: `bundled`."""
    bars: dict[str, pd.DataFrame]
    """Per symbol: index of dates, float64 columns open high low close volume; where known dividends (per share),
    splits (ratio on its day, 0 on others) and the vendor's adj_close."""
    request: dict[str, str]
    """What was asked for, as text for the manifest."""
    licence: str
    """Terms under which the bars were obtained."""
    versions: dict[str, str] = field(default_factory=dict)
    """Library versions that took part."""
    instruments: dict[str, Instrument] = field(default_factory=dict)
    """Per symbol, where the source knows it."""
    notes: list[str] = field(default_factory=list)
    """What the source itself did to the bars, one sentence each, for the manifest."""


Source = Callable[[Request], SourceBars]


def source_named(name: str) -> Source:
    """The function of a source; `InputError` lists the names there are."""
    if name not in SOURCES:
        raise InputError(f"SOURCE={name}: no such source; give {', '.join(SOURCES)}.")
    fetch: Source = import_module(SOURCES[name]).fetch
    return fetch


def parse_source_settings(name: str, text: str) -> dict[str, str]:
    """What `DATA=<name>:<text>` says, as the source's own `parse_settings` reads it; `InputError` if it takes none."""
    if not text:
        return {}
    parse: Callable[[str], dict[str, str]] | None = getattr(import_module(SOURCES[name]), "parse_settings", None)
    if parse is None:
        raise InputError(f"DATA={name}:{text}: this source takes no settings; give DATA={name}.")
    return parse(text)


def slug(symbol: str) -> str:
    """Instrument name safe in experiment and model names."""
    return SLUGS.get(symbol, "".join(letter for letter in symbol.lower() if letter.isalnum()))
