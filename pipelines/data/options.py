"""Options of `make data`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """Store bars as a named data set, bring a data set up to date, or verify a stored snapshot.

    examples:
      make data SYMBOLS=SPY,QQQ,^VIX START=1993-01-29 NAME=etf
      make data DATA=etf
      make data DATA=prices.csv CALENDAR=XNYS COLUMNS=close=px_last,date=day
      tapescale data --data etf --full
    """

    data: str = ""
    """`bundled` (default), `synthetic`, a CSV or Parquet file, a folder of such files, the name of a data set to bring up
    to date, or the digest of a snapshot to verify."""
    symbols: str = ""
    """Instruments as Yahoo names them, separated by commas; of a file, the instruments to read."""
    start: date | None = None
    """First day; default: the earliest available."""
    end: date | None = None
    """Last day; default: the newest available."""
    name: str = ""
    """Name of the data set; default: a name made from its symbols or its file."""
    columns: str = ""
    """Unusual column names of a file: close=px_last,date=day."""
    calendar: str = ""
    """Exchange calendar of a file's bars, for example XNYS; without one sessions are not checked."""
    kind: str = ""
    """Kind of a file's instruments: index, fund, stock, currency, crypto or other."""
    prices: str = ""
    """`split-adjusted` (default) or `raw`: with raw, prices before a split are divided by its ratio."""
    allow: str = ""
    """Validation rules whose errors become warnings, separated by commas; a data set keeps them."""
    timeout: float | None = None
    """Time limit of one request to Yahoo, in seconds."""
    full: bool = False
    """Fetch the whole history again, not only its end."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store."""
