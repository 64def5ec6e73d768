"""Mapping from a file's columns to ours: common names are recognised, others come from `COLUMNS=`; nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from research.data.bars import OHLCV
from research.errors import InputError

SYNONYMS: dict[str, tuple[str, ...]] = {
    "date": ("date", "day", "timestamp", "time", "datetime"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "vol", "v"),
    "adj_close": ("adj close", "adjclose", "adjusted close"),
    "dividends": ("dividends", "dividend"),
    "splits": ("splits", "split", "stock splits"),
    "symbol": ("symbol", "ticker", "instrument"),
}
"""Recognised names of each column, in any case; `_`, `-` and spaces are equivalent."""

REQUIRED = ["date", *OHLCV]


def parse_columns(text: str) -> dict[str, str]:
    """Return the mapping from our to the file's columns in `COLUMNS=ours=theirs,...`; raise `InputError` if it is wrong."""
    mapping: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not equals or not theirs:
            raise InputError(f"COLUMNS={text}: {part!r} names no column; write it as close=px_last.")
        if ours not in SYNONYMS:
            raise InputError(f"COLUMNS={text}: {ours!r} is not a column of bars; give one of {', '.join(SYNONYMS)}.")
        if ours in mapping or theirs in mapping.values():
            raise InputError(f"COLUMNS={text}: {part!r} names a column a second time; name each once.")
        mapping[ours] = theirs
    return mapping


def find_columns(columns: Sequence[str], named: Mapping[str, str], file: str) -> dict[str, str]:
    """Return the file's column for each of ours that exists; raise `InputError` with the column and what to type."""
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise InputError(f"{file}: two columns are called {repeated[0]!r}; give each a name of its own.")
    listed = ", ".join(column or "''" for column in columns) or "none"
    mapping: dict[str, str] = {}
    for ours, theirs in named.items():
        # The case may differ if only one column matches.
        matches = [column for column in columns if column == theirs] or [
            column for column in columns if _normalised(column) == _normalised(theirs)
        ]
        if len(matches) != 1:
            raise InputError(f"COLUMNS={ours}={theirs}: {file} has no such column; give one of {listed}.")
        mapping[ours] = matches[0]
    for ours, synonyms in SYNONYMS.items():
        if ours in mapping:
            continue
        matches = [column for column in columns if _normalised(column) in synonyms and column not in mapping.values()]
        if len(matches) == 1:
            mapping[ours] = matches[0]
        elif matches or ours in REQUIRED:
            error = f"{ours} may be {' or '.join(matches)}; choose one" if matches else f"no column for {ours}; name it"
            typed = {**named, ours: matches[0] if matches else "<column>"}
            command = "COLUMNS=" + ",".join(f"{name}={column}" for name, column in typed.items())
            raise InputError(f"{file}: {error} with {command} (columns of the file: {listed}).")
    return mapping


def _normalised(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())
