"""Closes of other instruments on the sessions of this one, as they were known at each close.

An index closes with the instrument: its close of session t is used at t. It may be a fund, whose dividends are taken out
as the instrument's own are. A volatility index is computed until 15 minutes later: at t its newest usable close is that
of an earlier session.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.data.dividend_adjustment import adjusted
from research.errors import InputError, require
from research.features.feature import FeatureSet, Reference, Series

OLDEST = 5
"""Calendar days that a reference may lag behind the session it stands for."""

Days = NDArray[np.datetime64]


def joined_references(
    feature_set: FeatureSet, days: pd.DatetimeIndex, bars_of: Mapping[str, pd.DataFrame]
) -> dict[Reference, Series]:
    """Closes that the set's cross-asset columns need, one per day."""
    joined: dict[Reference, Series] = {}
    if feature_set.index:
        bars = adjusted(_bars("INDEX", feature_set.index, bars_of))
        joined["index"] = same_session(days, bars, feature_set.index)
    if feature_set.volatility_index:
        bars = _bars("VOLATILITY_INDEX", feature_set.volatility_index, bars_of)
        joined["volatility_index"] = earlier_session(days, bars, feature_set.volatility_index)
    return joined


def same_session(days: pd.DatetimeIndex, reference: pd.DataFrame, name: str) -> Series:
    """The reference's close of each day, or its last one before, at most `OLDEST` days old."""
    known = _dates(days)
    newest = np.searchsorted(_dates(reference.index), known, side="right") - 1
    return _closes("INDEX", name, reference, newest, known)


def earlier_session(days: pd.DatetimeIndex, reference: pd.DataFrame, name: str) -> Series:
    """The reference's last close before each day, at most `OLDEST` days older than the session before it.

    The first day is NaN where the reference does not begin earlier.
    """
    known = _dates(days)
    newest = np.searchsorted(_dates(reference.index), known, side="left") - 1
    # Measured from the session before, so that a long closure of both markets is no gap.
    before = np.concatenate([known[:1], known[:-1]])
    if len(known) and newest[0] < 0:
        rest = _closes("VOLATILITY_INDEX", name, reference, newest[1:], before[1:])
        return np.concatenate([[np.nan], rest])
    return _closes("VOLATILITY_INDEX", name, reference, newest, before)


def _closes(field: str, name: str, reference: pd.DataFrame, newest: NDArray[np.intp], wanted: Days) -> Series:
    dates = _dates(reference.index)
    age = wanted - dates[np.maximum(newest, 0)]
    missing = (newest < 0) | (age > np.timedelta64(OLDEST, "D"))
    if missing.any():
        first = int(missing.argmax())
        last_known = f"its last one before is of {dates[newest[first]]}" if newest[first] >= 0 else f"it begins {dates[0]}"
        raise InputError(
            f"{field}={name}: no close of {wanted[first]} and none in the {OLDEST} days before ({last_known}); "
            "fetch its whole history, or use bars of the days that it has."
        )
    closes: Series = reference["close"].to_numpy(np.float64)[newest]
    return closes


def _bars(field: str, name: str, bars_of: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    there = ", ".join(bars_of) or "nothing"
    require(name in bars_of, field, name, f"there are no bars of it; give one of {there}, or fetch it.")
    return bars_of[name]


def _dates(index: pd.Index) -> Days:
    return pd.DatetimeIndex(index).to_numpy().astype("datetime64[D]")
