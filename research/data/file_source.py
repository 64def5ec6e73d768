"""Bars from the user's files: CSV or Parquet, a folder of files, one instrument per file or several by a symbol column.

Settings: `path`; `columns` (`close=px_last,date=day`); `calendar` (without one, sessions are not checked); `kind`;
`prices` (`split-adjusted`, or `raw`: prices, volume and dividends before each declared split are adjusted here).
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from research.data.bars import ACTIONS, OHLCV, PRICES
from research.data.column_mapping import find_columns, parse_columns
from research.data.sources import Instrument, Kind, Request, SourceBars
from research.data.table_files import SUFFIXES, TextTable, parse_dates, parse_numbers, read_table, symbol_from_file_name
from research.errors import require

PRICE_FORMS = ("split-adjusted", "raw")


def fetch(request: Request) -> SourceBars:
    """Return the bars of a file or a folder of files; raise `InputError` if a setting or a cell is wrong."""
    settings = request.settings
    form = settings.get("prices", PRICE_FORMS[0])
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    kind = settings.get("kind", "other")
    require(kind in kinds, "KIND", kind, f"no such kind; give one of {', '.join(kinds)}.")
    require(form in PRICE_FORMS, "PRICES", form, f"no such form; give {' or '.join(PRICE_FORMS)}.")
    paths = _files(Path(settings["path"]))
    notes: list[str] = []
    bars = _selected(_read_all(paths, request, notes), request)
    if form == "raw":
        bars = {symbol: _split_adjusted(frame, symbol, notes) for symbol, frame in bars.items()}
    return SourceBars(
        source="file",
        bars=bars,
        request=_manifest_request(paths, request),
        licence="the user's own",
        versions={"pyarrow": version("pyarrow")} if any(path.suffix.lower() == ".parquet" for path in paths) else {},
        instruments=dict.fromkeys(bars, Instrument(calendar=settings.get("calendar", ""), kind=kinds[kind])),
        notes=notes,
    )


def _files(path: Path) -> list[Path]:
    """Return the file itself, or the files of a folder sorted by name."""
    endings = ", ".join(SUFFIXES)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.lower().endswith(SUFFIXES))
        require(bool(files), "DATA", path, f"the folder has no table; add files that end with {endings}.")
        return files
    require(path.is_file(), "DATA", path, "no such file or folder; check the path.")
    require(path.name.lower().endswith(SUFFIXES), "DATA", path, f"not a table; give a file that ends with {endings}.")
    return [path]


def _read_all(paths: list[Path], request: Request, notes: list[str]) -> dict[str, pd.DataFrame]:
    named = parse_columns(request.settings.get("columns", ""))
    in_folder = Path(request.settings["path"]).is_dir()
    bars: dict[str, pd.DataFrame] = {}
    for path in paths:
        # Without a symbol column SYMBOLS names a single file's instrument; in a folder each file's name does.
        only = request.symbols[0] if len(request.symbols) == 1 and not in_folder else symbol_from_file_name(path)
        table = read_table(path)
        for symbol, frame in _instruments(table, find_columns(list(table.frame.columns), named, path.name), only).items():
            fix = f"another file of the folder has {symbol} too; keep one of them."
            require(symbol not in bars, "DATA", path.name, fix)
            # Many exports begin with the newest day; validation reports any other wrong order.
            if len(frame) > 1 and (frame.index[1:] < frame.index[:-1]).all():
                notes.append(f"{symbol}: the file begins with the newest day; its order was reversed.")
                frame = frame[::-1]
            bars[symbol] = frame
    return bars


def _instruments(table: TextTable, columns: dict[str, str], only: str) -> dict[str, pd.DataFrame]:
    """Return bars by symbol in the file's order; all rows belong to `only` if there is no symbol column."""
    values = {name: parse_numbers(table, columns[name]) for name in [*OHLCV, "adj_close"] if name in columns}
    values |= {name: parse_numbers(table, columns[name], empty=0.0) for name in ACTIONS if name in columns}
    frame = pd.DataFrame(values, index=parse_dates(table, columns["date"]).rename("date"))
    if "symbol" not in columns:
        return {only: frame}
    symbols = table.frame[columns["symbol"]].astype(str).fillna("").str.strip()
    table.refuse((symbols == "").to_numpy(dtype=np.bool_), columns["symbol"], "name the instrument of every row")
    return {str(symbol): part for symbol, part in frame.groupby(symbols.to_numpy(), sort=True)}


def _selected(bars: dict[str, pd.DataFrame], request: Request) -> dict[str, pd.DataFrame]:
    """Return the requested instruments in the requested period."""
    absent = [symbol for symbol in request.symbols if symbol not in bars]
    fix = f"not in the file; give one of {', '.join(bars) or 'none'}."
    require(not absent, "SYMBOLS", ",".join(absent), fix)
    first = pd.Timestamp(request.start or pd.Timestamp.min)
    last = pd.Timestamp(request.end or pd.Timestamp.max)
    symbols = request.symbols or tuple(bars)
    return {symbol: bars[symbol][(bars[symbol].index >= first) & (bars[symbol].index <= last)] for symbol in symbols}


def _split_adjusted(bars: pd.DataFrame, symbol: str, notes: list[str]) -> pd.DataFrame:
    """Divide prices and dividends before each split by its ratio and multiply volume; the split's day is adjusted already."""
    require("splits" in bars, "PRICES", "raw", f"{symbol} has no column of splits; name it with COLUMNS=splits=<column>.")
    ratio = bars["splits"].where(bars["splits"] > 0, 1.0)
    later = ratio[::-1].cumprod()[::-1].shift(-1, fill_value=1.0).to_numpy()
    divided = [column for column in [*PRICES, "dividends"] if column in bars]
    scaled = {column: bars[column] / later for column in divided} | {"volume": bars["volume"] * later}
    notes.append(f"{symbol}: the file's raw prices were adjusted for {int((ratio != 1).sum())} splits.")
    return bars.assign(**scaled)


def _manifest_request(paths: list[Path], request: Request) -> dict[str, str]:
    """Return the request as text that is the same on every machine: names and SHA-256 of files, no folders."""
    files = {f"sha256 {path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    settings = {name: value for name, value in request.settings.items() if name != "path" and value}
    days = {name: str(day) for name, day in {"start": request.start, "end": request.end}.items() if day}
    symbols = {"symbols": ",".join(request.symbols)} if request.symbols else {}
    return {"path": Path(request.settings["path"]).name, **files, **settings, **symbols, **days}
