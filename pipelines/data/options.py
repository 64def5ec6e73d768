"""Options of `make data`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """Take bars in as a named data set, bring one up to date, or verify a snapshot that is there.

    examples:
      make data SYMBOLS=SPY,QQQ,^VIX START=1993-01-29 NAME=etf
      make data DATA=etf
      make data DATA=prices.csv CALENDAR=XNYS COLUMNS=close=px_last,date=day
      tapescale data --data etf --full
    """

    data: str = ""
    """`bundled` (if nothing is said), a CSV or Parquet file or a folder of them, `synthetic`, the name of a data set to
    bring up to date, or the digest of a snapshot to verify."""
    symbols: str = ""
    """Instruments as Yahoo names them, with commas between; or those of a file to take."""
    start: date | None = None
    """First day; the earliest there is if not given."""
    end: date | None = None
    """Last day; the newest there is if not given."""
    name: str = ""
    """Name of the data set; after its symbols or its file if not given."""
    columns: str = ""
    """Unusual columns of a file: close=px_last,date=day."""
    calendar: str = ""
    """Exchange calendar of a file's bars, for example XNYS; sessions are not checked if not given."""
    kind: str = ""
    """What a file's instruments are: index, fund, stock, currency, crypto or other."""
    prices: str = ""
    """`split-adjusted` (if nothing is said) or `raw`: whether a file's prices before a split are divided by its ratio."""
    allow: str = ""
    """Rules of validation to accept as broken, with commas between; a data set remembers them."""
    timeout: float | None = None
    """Seconds that Yahoo may take for an answer."""
    full: bool = False
    """Ask for the whole history again instead of its end."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store."""
