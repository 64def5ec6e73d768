"""Bars from the user's own files: CSV or Parquet, one instrument each, or many by a symbol column, or a folder of them.

Settings: `path`; `columns` (`close=px_last,date=day`); `calendar` (sessions are not checked without one); `kind`;
`prices` (`split-adjusted`, or `raw`: then prices, volume and dividends before each declared split are adjusted here).
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
from research.errors import InputError, require

FORMS = ("split-adjusted", "raw")
KINDS: tuple[Kind, ...] = get_args(Kind)


def fetch(request: Request) -> SourceBars:
    """Bars of one file or of a folder of files."""
    settings = request.settings
    form, kind = settings.get("prices", FORMS[0]), _kind(settings.get("kind", "other"))
    require(form in FORMS, "PRICES", form, f"give {' or '.join(FORMS)}.")
    paths = _files(Path(settings["path"]))
    notes: list[str] = []
    bars = _asked(_read_all(paths, request, notes), request)
    if form == "raw":
        bars = {symbol: _split_adjusted(frame, symbol, notes) for symbol, frame in bars.items()}
    instrument = Instrument(calendar=settings.get("calendar", ""), kind=kind)
    return SourceBars(
        source="file",
        bars=bars,
        request=_described(paths, request),
        licence="the user's own",
        versions={"pyarrow": version("pyarrow")} if any(path.suffix.lower() == ".parquet" for path in paths) else {},
        instruments=dict.fromkeys(bars, instrument),
        notes=notes,
    )


def _kind(name: str) -> Kind:
    for kind in KINDS:
        if kind == name:
            return kind
    raise InputError(f"KIND={name}: give one of {', '.join(KINDS)}.")


def _files(path: Path) -> list[Path]:
    """The file itself, or those of a folder by name."""
    endings = ", ".join(SUFFIXES)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.lower().endswith(SUFFIXES))
        require(bool(files), "DATA", path, f"the folder holds no file that ends with {endings}.")
        return files
    require(path.is_file(), "DATA", path, "there is no such file or folder; check the path.")
    require(path.name.lower().endswith(SUFFIXES), "DATA", path, f"give a file that ends with {endings}.")
    return [path]


def _read_all(paths: list[Path], request: Request, notes: list[str]) -> dict[str, pd.DataFrame]:
    named = parse_columns(request.settings.get("columns", ""))
    in_folder = Path(request.settings["path"]).is_dir()
    bars: dict[str, pd.DataFrame] = {}
    for path in paths:
        # One file without a symbol column is what the user says it is; those of a folder have their names.
        only = request.symbols[0] if len(request.symbols) == 1 and not in_folder else symbol_from_file_name(path)
        table = read_table(path)
        for symbol, frame in _instruments(table, find_columns(list(table.frame.columns), named, path.name), only).items():
            require(symbol not in bars, "DATA", path.name, f"{symbol} is in another file of the folder too; keep one.")
            bars[symbol] = _oldest_first(frame, symbol, notes)
    return bars


def _instruments(table: TextTable, columns: dict[str, str], only: str) -> dict[str, pd.DataFrame]:
    """Bars by symbol, in the file's order; all of them are `only` where no column says otherwise."""
    values = {name: parse_numbers(table, columns[name]) for name in [*OHLCV, "adj_close"] if name in columns}
    values |= {name: parse_numbers(table, columns[name], empty=0.0) for name in ACTIONS if name in columns}
    frame = pd.DataFrame(values, index=parse_dates(table, columns["date"]).rename("date"))
    if "symbol" not in columns:
        return {only: frame}
    symbols = table.frame[columns["symbol"]].astype(str).fillna("").str.strip()
    table.refuse((symbols == "").to_numpy(dtype=np.bool_), columns["symbol"], "name the instrument of every row")
    return {str(symbol): part for symbol, part in frame.groupby(symbols.to_numpy(), sort=True)}


def _oldest_first(bars: pd.DataFrame, symbol: str, notes: list[str]) -> pd.DataFrame:
    """Many exports begin with the newest day; any other order is left for validation to name."""
    if len(bars) < 2 or not (bars.index[1:] < bars.index[:-1]).all():
        return bars
    notes.append(f"{symbol}: the file has the newest day first; turned round.")
    return bars[::-1]


def _asked(bars: dict[str, pd.DataFrame], request: Request) -> dict[str, pd.DataFrame]:
    """The instruments and the days that were asked for."""
    absent = [symbol for symbol in request.symbols if symbol not in bars]
    require(not absent, "SYMBOLS", ",".join(absent), f"the file has {', '.join(bars) or 'no bars'}.")
    first = pd.Timestamp(request.start or pd.Timestamp.min)
    last = pd.Timestamp(request.end or pd.Timestamp.max)
    wanted = request.symbols or tuple(bars)
    return {symbol: bars[symbol][(bars[symbol].index >= first) & (bars[symbol].index <= last)] for symbol in wanted}


def _split_adjusted(bars: pd.DataFrame, symbol: str, notes: list[str]) -> pd.DataFrame:
    """Prices and dividends before a split divided by its ratio, volume multiplied; the day itself trades split already."""
    require("splits" in bars, "PRICES", "raw", f"{symbol} has no column for splits; name it with COLUMNS=splits=<column>.")
    ratio = bars["splits"].where(bars["splits"] > 0, 1.0)
    later = ratio[::-1].cumprod()[::-1].shift(-1, fill_value=1.0).to_numpy()
    divided = [column for column in [*PRICES, "dividends"] if column in bars]
    scaled = {column: bars[column] / later for column in divided} | {"volume": bars["volume"] * later}
    notes.append(f"{symbol}: adjusted here for {int((ratio != 1).sum())} splits; the file's prices are not.")
    return bars.assign(**scaled)


def _described(paths: list[Path], request: Request) -> dict[str, str]:
    """The request as text that means the same on another machine: names and contents of files, no folders."""
    files = {f"sha256 {path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    settings = {name: value for name, value in request.settings.items() if name != "path" and value}
    days = {name: str(day) for name, day in {"start": request.start, "end": request.end}.items() if day}
    symbols = {"symbols": ",".join(request.symbols)} if request.symbols else {}
    return {"path": Path(request.settings["path"]).name, **files, **settings, **symbols, **days}
