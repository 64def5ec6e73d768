"""Dividend adjustment of prices from the dividends themselves; a vendor's adjusted close is never used."""

from __future__ import annotations

import numpy as np
import pandas as pd

from research.data.bars import PRICES
from research.errors import InputError


def adjusted(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars with open, high, low and close adjusted backward for dividends: the last bar keeps its prices.

    Yahoo's rule, after the price adjustment factors of CRSP (Center for Research in Security Prices): a dividend D with
    ex-day t multiplies every price before t by 1 - D / C[t-1], where C is the stored close (adjusted for splits only).
    The gross return over the ex-day is then exactly C[t] / (C[t-1] - D). It equals the holder's return
    (C[t] + D) / C[t-1] if C[t] = C[t-1] - D, and otherwise differs by D/C[t-1] times the adjusted return. Returns over
    other days do not change.

    A LATER dividend multiplies all earlier adjusted prices by one constant. Features of adjusted prices must therefore
    be scale-free, as `a25s` is. The raw `a25` is not: each later dividend changes its past values.

    `dividends` becomes zero, so that a second adjustment changes nothing. Volume and other columns are kept. Bars without
    dividends are returned as the same object. Raises `InputError` if a dividend is not between 0 and the previous close.
    """
    if "dividends" not in bars or not (bars["dividends"] != 0).any():
        return bars
    dividends, close = bars["dividends"].to_numpy(np.float64), bars["close"].to_numpy(np.float64)
    valid = np.isfinite(dividends) & (dividends >= 0)
    valid[1:] &= ~(dividends[1:] >= close[:-1])
    if not valid.all():
        row = int(np.argmin(valid))
        before = f"{close[row - 1]:g}" if row else "unknown"
        raise InputError(
            f"dividends={dividends[row]:g} on {bars.index[row]:%Y-%m-%d}: a dividend must be between 0 and the previous close "
            f"({before}); correct the source and run `make data` again."
        )
    # No price lies before the first bar's dividend.
    factors = np.append(1 - dividends[1:] / close[:-1], 1.0)
    later = np.cumprod(factors[::-1])[::-1]
    result = bars.copy()
    result[PRICES] = bars[PRICES].to_numpy(np.float64) * later[:, None]
    result["dividends"] = 0.0
    return result
