"""The OHLCV contract: what a table of daily bars must be before anything is computed from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from research.errors import InputError
from research.fingerprint import digest_bytes

OHLCV = ["open", "high", "low", "close", "volume"]
PRICES = OHLCV[:4]
ACTIONS = ["dividends", "splits"]
PRICE_DECIMALS = 6

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class RowRule:
    """What every single bar must keep, whatever its instrument and exchange."""

    says: str
    """What is wrong with a bar that breaks the rule."""
    broken: Callable[[pd.DataFrame], Mask]
    """The rows that break it."""
    may_be_allowed: bool = False
    """Whether bars that break it can be computed with at all."""


CONTRACT: Mapping[str, RowRule] = {
    "time-of-day": RowRule(says="a date has a time of day", broken=lambda bars: ~(_days(bars) == _days(bars).normalize())),
    "duplicate-date": RowRule(says="a date comes twice", broken=lambda bars: bars.index.duplicated()),
    "unordered-dates": RowRule(
        says="dates are not increasing", broken=lambda bars: np.append(False, bars.index[1:] < bars.index[:-1])
    ),
    "non-finite-price": RowRule(says="a price is not finite", broken=lambda bars: _any(~np.isfinite(_prices(bars)))),
    "non-positive-price": RowRule(
        says="a price is not positive", broken=lambda bars: _any((_prices(bars) <= 0) & (_prices(bars) > -np.inf))
    ),
    "bad-volume": RowRule(says="volume is negative or not finite", broken=lambda bars: _negative(bars, ["volume"])),
    "bad-action": RowRule(
        says="a dividend or split is negative or not finite", broken=lambda bars: _negative(bars, _actions(bars))
    ),
    "high-too-low": RowRule(
        says="high is below open, low or close",
        broken=lambda bars: _priced(bars) & (_column(bars, "high") < _prices(bars).max(axis=1)),
        may_be_allowed=True,
    ),
    "low-too-high": RowRule(
        says="low is above open or close",
        broken=lambda bars: _priced(bars) & (_column(bars, "low") > np.minimum(_column(bars, "open"), _column(bars, "close"))),
        may_be_allowed=True,
    ),
}
"""Every rule by the name that `ALLOW=` takes."""


def check_bars(
    bars: pd.DataFrame, symbol: str, allow: Collection[str] = (), fix: str = "mend the source and ingest again"
) -> None:
    """Raise `InputError` naming symbol, rule and dates unless `bars` keeps the contract.

    Contract: columns `open high low close volume` of numbers, a unique increasing daily index without
    time zone, finite positive prices, low <= open, close <= high, volume not negative. `allow` names
    rules that were allowed when these bars were taken in, `fix` what their sender is to do about broken ones.
    """
    problem = format_error(bars)
    if problem:
        raise InputError(f"{symbol}: {problem}.")
    for name, rule in CONTRACT.items():
        broken = rule.broken(bars)
        if name not in allow and broken.any():
            raise InputError(f"{symbol}: {rule.says} on {some_dates(bars.index[broken])}; {fix}.")


def format_error(bars: pd.DataFrame) -> str:
    """What keeps a table from being bars at all, as a sentence; empty if it can be looked at row by row."""
    missing = [column for column in OHLCV if column not in bars.columns]
    if missing:
        return f"column {missing[0]} is missing; bars need {', '.join(OHLCV)}"
    if not isinstance(bars.index, pd.DatetimeIndex) or bars.index.tz is not None:
        return "the index must be dates without a time zone"
    if bars.index.hasnans:
        return "a date is missing"
    text = [column for column in [*OHLCV, *_actions(bars)] if not pd.api.types.is_numeric_dtype(bars[column])]
    if text:
        return f"column {text[0]} is not numbers"
    return "" if len(bars) else "there are no bars; ask for another period or symbol"


def bars_digest(bars_by_symbol: dict[str, pd.DataFrame]) -> str:
    """Digest of canonical OHLCV: symbols sorted, prices rounded to six decimals, fixed dtypes and order.

    Dividends and splits are part of it where there are any, since the study's prices follow from them.
    Bytes of a file or a vendor's adjusted close (which changes in the 7th digit between two identical
    requests) play no part in it.
    """
    parts: list[bytes] = []
    for symbol in sorted(bars_by_symbol):
        bars = bars_by_symbol[symbol]
        days = bars.index.to_numpy().astype("datetime64[D]").astype("<i8")
        values = _rounded(bars, OHLCV)
        parts += [symbol.encode() + b"\0", str(len(bars)).encode() + b"\0", days.tobytes(), values.tobytes()]
        for column in _actions(bars):
            # A negative zero equals zero and must not give another digest.
            values = _rounded(bars, [column]) + 0.0
            parts += [column.encode() + b"\0", values.tobytes()] if values.any() else []
    return digest_bytes(*parts)


def some_dates(days: pd.Index[Any], most: int = 3) -> str:
    """The first few dates and how many more there are."""
    shown = ", ".join(f"{day:%Y-%m-%d}" for day in days[:most])
    more = len(days) - most
    return shown + (f" and {more:,} more day{'s' if more > 1 else ''}" if more > 0 else "")


def _rounded(bars: pd.DataFrame, columns: list[str]) -> npt.NDArray[np.float64]:
    return np.round(bars[columns].to_numpy(dtype=np.float64), PRICE_DECIMALS).astype("<f8")


def _days(bars: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(bars.index)


def _actions(bars: pd.DataFrame) -> list[str]:
    return [column for column in ACTIONS if column in bars.columns]


def _column(bars: pd.DataFrame, name: str) -> npt.NDArray[np.float64]:
    return bars[name].to_numpy(dtype=np.float64)


def _prices(bars: pd.DataFrame) -> npt.NDArray[np.float64]:
    return bars[PRICES].to_numpy(dtype=np.float64)


def _priced(bars: pd.DataFrame) -> Mask:
    """Rows whose prices can be compared; the others break rules of their own."""
    prices = _prices(bars)
    return ~_any(~np.isfinite(prices) | (prices <= 0))


def _negative(bars: pd.DataFrame, columns: list[str]) -> Mask:
    values = bars[columns].to_numpy(dtype=np.float64)
    return _any(~np.isfinite(values) | (values < 0))


def _any(cells: Mask) -> Mask:
    """Rows in which any cell is true."""
    return np.asarray(cells.any(axis=1))
