"""The contract of daily OHLCV bars, checked before anything is computed from them, and their digest."""

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
    """A rule for single bars of any instrument and exchange."""

    message: str
    """Description of a bar that breaks the rule."""
    broken: Callable[[pd.DataFrame], Mask]
    """Mask [rows] of the bars that break the rule."""
    may_be_allowed: bool = False
    """True if bars that break the rule can still be computed with."""


def _actions(bars: pd.DataFrame) -> list[str]:
    return [column for column in ACTIONS if column in bars.columns]


def _values(bars: pd.DataFrame, columns: list[str]) -> npt.NDArray[np.float64]:
    return bars[columns].to_numpy(dtype=np.float64)


def _any_bad(bars: pd.DataFrame, columns: list[str]) -> Mask:
    """Return a mask of rows with a negative or non-finite value in any of the columns."""
    values = _values(bars, columns)
    return np.asarray((~np.isfinite(values) | (values < 0)).any(axis=1))


def _has_time(bars: pd.DataFrame) -> Mask:
    days = pd.DatetimeIndex(bars.index)
    return ~(days == days.normalize())


def _high_too_low(bars: pd.DataFrame) -> Mask:
    too_low: Mask = _values(bars, ["high"])[:, 0] < _values(bars, PRICES).max(axis=1)
    return _comparable(bars) & too_low


def _low_too_high(bars: pd.DataFrame) -> Mask:
    too_high: Mask = _values(bars, ["low"])[:, 0] > _values(bars, ["open", "close"]).min(axis=1)
    return _comparable(bars) & too_high


def _comparable(bars: pd.DataFrame) -> Mask:
    """Return a mask of rows with finite positive prices; the other rows break rules of their own."""
    prices = _values(bars, PRICES)
    return np.asarray((np.isfinite(prices) & (prices > 0)).all(axis=1))


def _non_positive(bars: pd.DataFrame) -> Mask:
    prices = _values(bars, PRICES)
    return np.asarray(((prices <= 0) & (prices > -np.inf)).any(axis=1))


CONTRACT: Mapping[str, RowRule] = {
    "time-of-day": RowRule(message="a date has a time of day", broken=_has_time),
    "duplicate-date": RowRule(message="a date comes twice", broken=lambda bars: bars.index.duplicated()),
    "unordered-dates": RowRule(
        message="dates are not increasing", broken=lambda bars: np.append(False, bars.index[1:] < bars.index[:-1])
    ),
    "non-finite-price": RowRule(
        message="a price is not finite", broken=lambda bars: np.asarray((~np.isfinite(_values(bars, PRICES))).any(axis=1))
    ),
    "non-positive-price": RowRule(message="a price is not positive", broken=_non_positive),
    "bad-volume": RowRule(message="volume is negative or not finite", broken=lambda bars: _any_bad(bars, ["volume"])),
    "bad-action": RowRule(
        message="a dividend or split is negative or not finite", broken=lambda bars: _any_bad(bars, _actions(bars))
    ),
    "high-too-low": RowRule(message="high is below open, low or close", broken=_high_too_low, may_be_allowed=True),
    "low-too-high": RowRule(message="low is above open or close", broken=_low_too_high, may_be_allowed=True),
}
"""Every rule by its name in `ALLOW=`."""


def check_bars(
    bars: pd.DataFrame, symbol: str, allow: Collection[str] = (), fix: str = "correct the source and run `make data` again"
) -> None:
    """Raise `InputError` naming symbol, rule and dates if `bars` break the contract.

    Contract: numeric columns `open high low close volume`, a unique increasing daily index without time zone, finite
    positive prices, low <= open, close <= high, and non-negative volume. `allow` names rules that were allowed when the
    bars were stored. `fix` tells the sender of the bars what to do.
    """
    error = format_error(bars)
    if error:
        raise InputError(f"{symbol}: {error}.")
    for name, rule in CONTRACT.items():
        broken = rule.broken(bars)
        if name not in allow and broken.any():
            raise InputError(f"{symbol}: {rule.message} on {some_dates(bars.index[broken])}; {fix}.")


def format_error(bars: pd.DataFrame) -> str:
    """Return the error of a table that is not numeric daily bars; an empty string if its rows can be checked."""
    missing = [column for column in OHLCV if column not in bars.columns]
    if missing:
        return f"column {missing[0]} is missing; bars need {', '.join(OHLCV)}"
    if not isinstance(bars.index, pd.DatetimeIndex) or bars.index.tz is not None:
        return "the index must be dates without a time zone"
    if bars.index.hasnans:
        return "a date is missing"
    text = [column for column in [*OHLCV, *_actions(bars)] if not pd.api.types.is_numeric_dtype(bars[column])]
    if text:
        return f"column {text[0]} is not numeric"
    return "" if len(bars) else "there are no bars; choose another period or symbol"


def bars_digest(bars_by_symbol: dict[str, pd.DataFrame]) -> str:
    """Return the digest of canonical OHLCV: symbols sorted, prices rounded to six decimals, fixed dtypes and order.

    Dividends and splits are included if there are any, since a task's prices depend on them. File bytes and a vendor's
    adjusted close are left out: the adjusted close changes in the 7th digit between two identical requests.
    """
    parts: list[bytes] = []
    for symbol in sorted(bars_by_symbol):
        bars = bars_by_symbol[symbol]
        days = bars.index.to_numpy().astype("datetime64[D]").astype("<i8")
        values = np.round(_values(bars, OHLCV), PRICE_DECIMALS).astype("<f8")
        parts += [symbol.encode() + b"\0", str(len(bars)).encode() + b"\0", days.tobytes(), values.tobytes()]
        for column in _actions(bars):
            # A negative zero equals zero and must not give another digest.
            values = np.round(_values(bars, [column]), PRICE_DECIMALS).astype("<f8") + 0.0
            parts += [column.encode() + b"\0", values.tobytes()] if values.any() else []
    return digest_bytes(*parts)


def some_dates(days: pd.Index[Any], limit: int = 3) -> str:
    """Return the first `limit` dates as text, and the number of further ones."""
    shown = ", ".join(f"{day:%Y-%m-%d}" for day in days[:limit])
    more = len(days) - limit
    return shown + (f" and {more:,} more day{'s' if more > 1 else ''}" if more > 0 else "")
