"""The OHLCV contract: what a table of daily bars must be before anything is computed from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from research.spec import InputError, digest_bytes

OHLCV = ["open", "high", "low", "close", "volume"]
PRICES = OHLCV[:4]
PRICE_DECIMALS = 6


def check_bars(bars: pd.DataFrame, symbol: str) -> None:
    """Raise `InputError` naming symbol, rule and dates unless `bars` keeps the contract.

    Contract: columns `open high low close volume` (float64), a unique increasing daily index without
    time zone, finite positive prices, low <= open, close <= high, volume not negative.
    """
    missing = [column for column in OHLCV if column not in bars.columns]
    if missing:
        raise InputError(f"{symbol}: column {missing[0]} is missing; bars need {', '.join(OHLCV)}.")
    if not isinstance(bars.index, pd.DatetimeIndex) or bars.index.tz is not None:
        raise InputError(f"{symbol}: the index must be dates without a time zone.")
    if len(bars) == 0:
        raise InputError(f"{symbol}: there are no bars; ask for another period or symbol.")
    for rule, broken in _broken_rules(bars).items():
        if broken.any():
            raise InputError(f"{symbol}: {rule} on {_some_dates(bars.index[broken])}; mend the source and ingest again.")


def _broken_rules(bars: pd.DataFrame) -> dict[str, np.ndarray]:
    prices = bars[PRICES].to_numpy(dtype=np.float64)
    volume = bars["volume"].to_numpy(dtype=np.float64)
    open_, high, low, close = prices.T
    increasing = np.append(True, bars.index[1:] > bars.index[:-1])
    days = pd.DatetimeIndex(bars.index)
    return {
        "a date has a time of day": np.asarray(days != days.normalize()),
        "dates are not unique and increasing": ~increasing,
        "a price is not finite": ~np.isfinite(prices).all(axis=1),
        "a price is not positive": (prices <= 0).any(axis=1),
        "volume is negative or not finite": ~np.isfinite(volume) | (volume < 0),
        "high is below open, low or close": high < np.maximum(np.maximum(open_, close), low),
        "low is above open or close": low > np.minimum(open_, close),
    }


def warnings_of(bars: pd.DataFrame, symbol: str) -> list[str]:
    """Facts a reader must know that do not stop ingestion: stale opens, zero volume, flat bars."""
    found: list[str] = []
    stale = np.abs(bars["open"].to_numpy()[1:] - bars["close"].to_numpy()[:-1]) < 0.005
    year_of = pd.DatetimeIndex(bars.index[1:]).year.to_numpy()
    years = [int(year) for year in np.unique(year_of) if stale[year_of == year].mean() > 0.5]
    if years:
        share = stale[np.isin(year_of, years)].mean()
        found.append(
            f"{symbol}: open equals the previous close on {share:.0%} of the days in {_year_ranges(years)}; "
            "opening prices of these years carry no information."
        )
    for rule, days in {"volume is zero": bars["volume"] == 0, "the bar is flat": bars["high"] == bars["low"]}.items():
        if days.any():
            found.append(f"{symbol}: {rule} on {_some_dates(bars.index[days.to_numpy()])}.")
    return found


def bars_digest(bars_by_symbol: dict[str, pd.DataFrame]) -> str:
    """Digest of canonical OHLCV: symbols sorted, prices rounded to six decimals, fixed dtypes and order.

    Bytes of a file or a vendor's adjusted close (which changes in the 7th digit between two identical
    requests) play no part in it.
    """
    parts: list[bytes] = []
    for symbol in sorted(bars_by_symbol):
        bars = bars_by_symbol[symbol]
        days = bars.index.to_numpy().astype("datetime64[D]").astype("<i8")
        values = np.round(bars[OHLCV].to_numpy(dtype=np.float64), PRICE_DECIMALS).astype("<f8")
        parts += [symbol.encode() + b"\0", str(len(bars)).encode() + b"\0", days.tobytes(), values.tobytes()]
    return digest_bytes(*parts)


def _some_dates(days: pd.Index[Any], most: int = 3) -> str:
    shown = ", ".join(f"{day:%Y-%m-%d}" for day in days[:most])
    return shown + (f" and {len(days) - most} more days" if len(days) > most else "")


def _year_ranges(years: list[int]) -> str:
    runs: list[list[int]] = []
    for year in years:
        if runs and year == runs[-1][-1] + 1:
            runs[-1].append(year)
        else:
            runs.append([year])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
