"""Which column of somebody's table is which: usual names are found, unusual ones are named, nothing is guessed."""

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
"""Names under which a column is found, whatever their case; `_`, `-` and spaces are the same."""

REQUIRED = ["date", *OHLCV]


def parse_columns(text: str) -> dict[str, str]:
    """The mapping that `COLUMNS=ours=theirs,...` gives; `InputError` says what is wrong with it."""
    mapping: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not equals or not theirs:
            raise InputError(f"COLUMNS={text}: {part!r} names no column; write it as close=px_last.")
        if ours not in SYNONYMS:
            raise InputError(f"COLUMNS={text}: there is no {ours!r} to name; name one of {', '.join(SYNONYMS)}.")
        if ours in mapping or theirs in mapping.values():
            raise InputError(f"COLUMNS={text}: {part!r} names a column a second time; name each once.")
        mapping[ours] = theirs
    return mapping


def find_columns(there: Sequence[str], named: Mapping[str, str], file: str) -> dict[str, str]:
    """Our name -> their column, for all that are there; `InputError` names the column and what to type."""
    twice = sorted({column for column in there if there.count(column) > 1})
    if twice:
        raise InputError(f"{file}: two columns are called {twice[0]!r}; give each a name of its own.")
    found = {ours: _exactly(theirs, there, ours, file) for ours, theirs in named.items()}
    for ours, synonyms in SYNONYMS.items():
        if ours in found:
            continue
        fitting = [column for column in there if _plain(column) in synonyms and column not in found.values()]
        if len(fitting) > 1:
            raise InputError(
                f"{file}: {ours} may be {' or '.join(fitting)}; say which with {_typed(named, ours, fitting[0])} "
                f"(columns there are: {_listed(there)})."
            )
        if fitting:
            found[ours] = fitting[0]
        elif ours in REQUIRED:
            raise InputError(
                f"{file}: no column for {ours}; name it with {_typed(named, ours, '<column>')} "
                f"(columns there are: {_listed(there)})."
            )
    return found


def _exactly(theirs: str, there: Sequence[str], ours: str, file: str) -> str:
    """Their column as it is written; its case may differ where that leaves one."""
    fitting = [column for column in there if column == theirs] or [
        column for column in there if _plain(column) == _plain(theirs)
    ]
    if len(fitting) != 1:
        raise InputError(f"COLUMNS={ours}={theirs}: {file} has no such column; there are {_listed(there)}.")
    return fitting[0]


def _typed(named: Mapping[str, str], ours: str, theirs: str) -> str:
    """What to type, with what was typed already."""
    return "COLUMNS=" + ",".join(f"{name}={column}" for name, column in {**named, ours: theirs}.items())


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _listed(there: Sequence[str]) -> str:
    return ", ".join(column or "''" for column in there) or "none"
