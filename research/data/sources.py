"""Sources of bars: functions from a `Request` to `SourceBars`. No source ever replaces another."""

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
"""Instrument names for experiments and models, which may not contain `^`."""

SOURCES = {
    "bundled": "research.data.bundled",
    "yahoo": "research.data.yahoo.client",
    "file": "research.data.file_source",
    "synthetic": "research.data.synthetic",
}
"""Module whose `fetch` is the source, by name. Imported on use: a vendor's client takes seconds to import."""

NOT_BY_NAME = ("yahoo", "file")
"""Sources that `DATA=<name>` cannot select: yahoo needs a network and symbols, file a path."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to a source; it can be repeated later."""

    source: str
    """Name in `SOURCES`."""
    symbols: tuple[str, ...] = ()
    """Instruments; empty for all that the source has."""
    start: date | None = None
    """First day; None for the earliest available."""
    end: date | None = None
    """Last day, included; None for the newest available."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of this source: a file's path and column names, or a synthetic market's parameters."""


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """Facts about an instrument besides its bars."""

    calendar: str = ""
    """Name in exchange-calendars (`XNYS`, `24/7`); if empty, sessions are not checked."""
    kind: Kind = "other"
    """Kind of instrument, which decides the rules of validation: an index or a currency may have no volume, while a fund or
    a stock that traded has some. A simulated market has no clock, no exchange and no vendor's mistakes."""
    currency: str = ""


@dataclass(frozen=True, kw_only=True)
class SourceBars:
    """Bars as a source returned them, before validation.

    Prices and volume are adjusted for splits but not for dividends, as Yahoo's are. A dividend remains a price move until
    `research.data.dividend_adjustment.adjusted` removes it.
    """

    source: str
    """Name of the source, for example `bundled`."""
    bars: dict[str, pd.DataFrame]
    """By symbol: an index of dates and float64 columns open, high, low, close and volume. Optional columns are dividends
    (per share), splits (the ratio on its day, 0 on others) and the vendor's adj_close."""
    request: dict[str, str]
    """The request as text, for the manifest."""
    licence: str
    """Terms under which the bars were obtained."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the libraries used."""
    instruments: dict[str, Instrument] = field(default_factory=dict)
    """Instruments by symbol, if the source knows them."""
    notes: list[str] = field(default_factory=list)
    """One sentence per change that the source made to the bars, for the manifest."""


Source = Callable[[Request], SourceBars]


def source_named(name: str) -> Source:
    """Return the function of a source; raise `InputError` with the valid names if there is none."""
    if name not in SOURCES:
        raise InputError(f"SOURCE={name}: no such source; give {', '.join(SOURCES)}.")
    fetch: Source = import_module(SOURCES[name]).fetch
    return fetch


def parse_source_settings(name: str, text: str) -> dict[str, str]:
    """Return the settings in `DATA=<name>:<text>`; raise `InputError` if the source takes none."""
    if not text:
        return {}
    parse: Callable[[str], dict[str, str]] | None = getattr(import_module(SOURCES[name]), "parse_settings", None)
    if parse is None:
        raise InputError(f"DATA={name}:{text}: this source takes no settings; give DATA={name}.")
    return parse(text)


def slug(symbol: str) -> str:
    """Return the instrument's name in the form that experiment and model names allow."""
    return SLUGS.get(symbol, "".join(letter for letter in symbol.lower() if letter.isalnum()))
