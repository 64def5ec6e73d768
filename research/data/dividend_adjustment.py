"""Prices adjusted for dividends, computed by us from what was paid; a vendor's own adjusted close is never used."""

from __future__ import annotations

import numpy as np
import pandas as pd

from research.data.bars import PRICES
from research.errors import InputError


def adjusted(bars: pd.DataFrame) -> pd.DataFrame:
    """Bars whose open, high, low and close are adjusted for dividends, backward: the last bar keeps its prices.

    Yahoo's rule, after the price adjustment factors of CRSP (Center for Research in Security Prices): a dividend D with
    ex-day t multiplies every price before t by 1 - D / C[t-1], C being the close as stored (adjusted for splits only).
    Then, exactly, the gross return over the ex-day is C[t] / (C[t-1] - D). The holder's return (C[t] + D) / C[t-1] is
    the same where C[t] = C[t-1] - D and differs otherwise by D/C[t-1] times the adjusted return. Returns over other
    days do not change.

    A LATER dividend multiplies all earlier adjusted prices by one constant. Features of adjusted prices must therefore
    be free of scale, as `a25s` is; the raw `a25` is not, and its past values change with each dividend to come.

    Volume and other columns stay, but `dividends` becomes zero: what was taken out is not there to be taken out again.
    Bars without dividends are returned as they are, the same object.
    """
    if "dividends" not in bars or not (bars["dividends"] != 0).any():
        return bars
    dividends, close = bars["dividends"].to_numpy(np.float64), bars["close"].to_numpy(np.float64)
    _check(bars.index, dividends, close)
    # The first bar has no bar before it to be adjusted.
    factors = np.append(1 - dividends[1:] / close[:-1], 1.0)
    later = np.cumprod(factors[::-1])[::-1]
    result = bars.copy()
    result[PRICES] = bars[PRICES].to_numpy(np.float64) * later[:, None]
    result["dividends"] = 0.0
    return result


def _check(days: pd.Index[pd.Timestamp], dividends: np.ndarray, close: np.ndarray) -> None:
    possible = np.isfinite(dividends) & (dividends >= 0)
    possible[1:] &= ~(dividends[1:] >= close[:-1])
    if not possible.all():
        row = int(np.argmin(possible))
        before = f"{close[row - 1]:g}" if row else "unknown"
        raise InputError(
            f"dividends={dividends[row]:g} on {days[row]:%Y-%m-%d}: a dividend lies between 0 and the close before it "
            f"({before}); mend the source and take the data in again."
        )
