"""Somebody's table on disk, CSV or Parquet: its cells become dates and numbers, or the first that cannot is named."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from research.errors import InputError

SUFFIXES = (".csv", ".csv.gz", ".parquet")
DELIMITERS = ",;\t"
EMPTY = ("", "nan", "na", "n/a", "null", "none", "<na>", "nat")
"""Cells that say that there is no value, in lower case."""
DATE = r"(\d{4}[-/]\d{2}[-/]\d{2}|\d{8})"
MIDNIGHT = r"(?:[T ]0?0:00(?::00(?:\.0+)?)?)?\s*(?:Z|UTC|[+-]\d\d:?\d\d)?"
"""A time zone changes nothing: the local date is the one that is written."""


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """Columns as they lie in a file."""

    file: str
    """Name of the file, without folder."""
    frame: pd.DataFrame
    """Its columns: text, or typed where the file has types."""
    lines: npt.NDArray[np.int64]
    """Where each row is found in the file: its line in an editor, or its number where there are no lines."""
    unit: Literal["line", "row"]
    """What `lines` counts."""

    def refuse(self, rows: npt.NDArray[np.bool_], column: str, what: str) -> None:
        """Raise an `InputError` that names the first of `rows` and its cell, if there is one."""
        if rows.any():
            row = int(rows.argmax())
            cell = self.frame[column].iloc[row]
            raise InputError(f"{self.file} {self.unit} {self.lines[row]}: {column} is {str(cell)!r}; {what}.")


def read_table(path: Path) -> TextTable:
    """All cells of a CSV (also compressed) or Parquet file; `InputError` if it cannot be read as one."""
    try:
        return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, pa.ArrowException) as problem:
        raise InputError(f"{path.name}: cannot be read as {path.suffix[1:]} ({problem}); write the file again.") from problem


def symbol_from_file_name(path: Path) -> str:
    """The file's name without its ending, which is the instrument's where nothing else says so: `BRK.B.csv.gz`."""
    ending = max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len)
    return path.name[: -len(ending)].upper()


def parse_dates(table: TextTable, column: str) -> pd.DatetimeIndex:
    """Local dates of a column; one that is no date, or has a time of day, is refused by line."""
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
    table.refuse(timed, column, "bars within a day are not taken; give one bar a day, dated without a time")
    return days


def parse_numbers(table: TextTable, column: str, *, empty: float = np.nan) -> npt.NDArray[np.float64]:
    """A column as float64, `empty` where a cell has no value; one that is no plain number is refused by line."""
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
    """Read by the csv module: pandas drops surplus cells silently, such as those of an unquoted 1,234."""
    with _open(path) as text:
        first = text.readline()
        text.seek(0)
        rows = csv.reader(text, delimiter=max(DELIMITERS, key=first.count), strict=True)
        header = [name.strip() for name in next(rows, [])]
        filled = [(rows.line_num, cells) for cells in rows if any(cell.strip() for cell in cells)]
    for line, cells in filled:
        if len(cells) != len(header):
            raise InputError(
                f"{path.name} line {line}: {len(cells)} cells where the header has {len(header)}; "
                "take commas out of numbers, or add what is missing."
            )
    lines = np.array([line for line, _ in filled], dtype=np.int64)
    return TextTable(file=path.name, frame=_text_frame(header, filled), lines=lines, unit="line")


def _text_frame(header: list[str], rows: Sequence[tuple[int, list[str]]]) -> pd.DataFrame:
    columns = [pd.Series([cells[place] for _, cells in rows], dtype=str) for place in range(len(header))]
    return pd.concat(columns, axis=1, keys=header) if columns else pd.DataFrame()


def _open(path: Path) -> IO[str]:
    # Spreadsheets begin a UTF-8 file with a byte order mark, which would become part of the first name.
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")
