"""CSV and Parquet tables: cells are parsed as dates and numbers; an error names the first invalid cell."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from research.errors import InputError

SUFFIXES = (".csv", ".csv.gz", ".parquet")
DELIMITERS = ",;\t"
EMPTY = ("", "nan", "na", "n/a", "null", "none", "<na>", "nat")
"""Cells without a value, in lower case."""
DATE = r"(\d{4}[-/]\d{2}[-/]\d{2}|\d{8})"
MIDNIGHT = r"(?:[T ]0?0:00(?::00(?:\.0+)?)?)?\s*(?:Z|UTC|[+-]\d\d:?\d\d)?"
"""Midnight with an optional time zone, which is ignored: the written date is the local date."""


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table with unparsed cells."""

    file: str
    """Name of the file without its folder."""
    frame: pd.DataFrame
    """Columns as text, or typed if the file has types."""
    lines: npt.NDArray[np.int64]
    """Line of each row in a text file, or its row number in a Parquet file."""
    unit: Literal["line", "row"]
    """Unit of `lines`."""

    def refuse(self, rows: npt.NDArray[np.bool_], column: str, fix: str) -> None:
        """Raise `InputError` with the first row of the mask `rows` and its cell, if any row is set."""
        if rows.any():
            row = int(rows.argmax())
            cell = self.frame[column].iloc[row]
            raise InputError(f"{self.file} {self.unit} {self.lines[row]}: {column} is {str(cell)!r}; {fix}.")


def read_table(path: Path) -> TextTable:
    """Return all cells of a CSV (also gzip) or Parquet file; raise `InputError` if it cannot be read."""
    try:
        return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise InputError(f"{path.name}: cannot be read as {path.suffix[1:]} ({error}); write the file again.") from error


def symbol_from_file_name(path: Path) -> str:
    """Return the file's name without its ending, in capitals: `BRK.B` for `brk.b.csv.gz`."""
    ending = max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len)
    return path.name[: -len(ending)].upper()


def parse_dates(table: TextTable, column: str) -> pd.DatetimeIndex:
    """Return the local dates of a column; raise `InputError` with the line of a cell that is no date or has a time of day."""
    cells = table.frame[column]
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        days = pd.DatetimeIndex(cells)
        text = pd.Series(days.tz_localize(None)).astype(str)
    else:
        text = cells.astype(str).str.strip()
    parts = text.str.extract(rf"^{DATE}(.*)$")
    days = pd.DatetimeIndex(pd.to_datetime(parts[0].str.replace(r"\D", "", regex=True), format="%Y%m%d", errors="coerce"))
    table.refuse(np.asarray(days.isna()), column, "write dates as 2020-12-31")
    timed = ~parts[1].str.fullmatch(MIDNIGHT).to_numpy(dtype=np.bool_)
    table.refuse(timed, column, "intraday bars are not supported; give one bar per day, dated without a time")
    return days


def parse_numbers(table: TextTable, column: str, *, empty: float = np.nan) -> npt.NDArray[np.float64]:
    """Return a column as float64, `empty` for cells without a value; raise `InputError` with the line of any other text."""
    cells = table.frame[column]
    if pd.api.types.is_numeric_dtype(cells.dtype):
        typed = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.isnan(typed), empty, typed)
    text = cells.astype(str).fillna("").str.strip()
    none = text.str.lower().isin(EMPTY).to_numpy(dtype=np.bool_)
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    fix = "write a plain number such as 1234.5, without thousands separators, currency signs or units"
    table.refuse(np.isnan(values) & ~none, column, fix)
    return np.where(none, empty, values)


def _read_parquet(path: Path) -> TextTable:
    frame = pd.read_parquet(path)
    if any(frame.index.names) or isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.rename_axis(index=lambda name: name or "date").reset_index()
    frame.columns = [str(column) for column in frame.columns]
    return TextTable(file=path.name, frame=frame, lines=np.arange(1, len(frame) + 1), unit="row")


def _read_csv(path: Path) -> TextTable:
    """Read a CSV with the csv module: pandas silently drops surplus cells, such as those of an unquoted 1,234."""
    # Spreadsheets begin a UTF-8 file with a byte order mark, which would become part of the first column's name.
    open_text = gzip.open if path.suffix.lower() == ".gz" else open
    with open_text(path, "rt", encoding="utf-8-sig", newline="") as text:
        first = text.readline()
        text.seek(0)
        rows = csv.reader(text, delimiter=max(DELIMITERS, key=first.count), strict=True)
        header = [name.strip() for name in next(rows, [])]
        filled = [(rows.line_num, cells) for cells in rows if any(cell.strip() for cell in cells)]
    for line, cells in filled:
        if len(cells) != len(header):
            raise InputError(
                f"{path.name} line {line}: {len(cells)} cells, but the header has {len(header)}; "
                "remove commas from numbers, or add the missing cells."
            )
    lines = np.array([line for line, _ in filled], dtype=np.int64)
    columns = [pd.Series([cells[index] for _, cells in filled], dtype=str) for index in range(len(header))]
    frame = pd.concat(columns, axis=1, keys=header) if columns else pd.DataFrame()
    return TextTable(file=path.name, frame=frame, lines=lines, unit="line")
