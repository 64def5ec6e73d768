"""Closes of other instruments on the sessions of this one, as they were known at each close.

An index closes with the instrument, so its close of session t is used at t. It may be a fund; then its prices are
adjusted for dividends like the instrument's own. A volatility index is computed until 15 minutes later, so at t its newest
usable close is that of an earlier session.
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
"""Largest age of a reference's close, in calendar days."""

Days = NDArray[np.datetime64]


def joined_references(
    feature_set: FeatureSet, days: pd.DatetimeIndex, bars_of: Mapping[str, pd.DataFrame]
) -> dict[Reference, Series]:
    """Return the closes [days] that the set's cross-asset columns need; `bars_of` maps instruments to bars."""
    joined: dict[Reference, Series] = {}
    for variable, name in {"INDEX": feature_set.index, "VOLATILITY_INDEX": feature_set.volatility_index}.items():
        if name:
            stored = ", ".join(bars_of) or "nothing"
            require(name in bars_of, variable, name, f"there are no bars of it; give one of {stored}, or fetch it.")
    if feature_set.index:
        joined["index"] = same_session(days, adjusted(bars_of[feature_set.index]), feature_set.index)
    if feature_set.volatility_index:
        bars = bars_of[feature_set.volatility_index]
        joined["volatility_index"] = earlier_session(days, bars, feature_set.volatility_index)
    return joined


def same_session(days: pd.DatetimeIndex, reference: pd.DataFrame, name: str) -> Series:
    """Return the reference's close of each day, or the last one before if it is at most `OLDEST` days old."""
    sessions = _dates(days)
    newest = np.searchsorted(_dates(reference.index), sessions, side="right") - 1
    return _closes("INDEX", name, reference, newest, sessions)


def earlier_session(days: pd.DatetimeIndex, reference: pd.DataFrame, name: str) -> Series:
    """Return the reference's last close before each day, at most `OLDEST` days older than the previous session.

    The first value is NaN if the reference does not begin before the first day.
    """
    sessions = _dates(days)
    newest = np.searchsorted(_dates(reference.index), sessions, side="left") - 1
    # The age counts from the previous session, so that a long closure of both markets is no gap.
    before = np.concatenate([sessions[:1], sessions[:-1]])
    if len(sessions) and newest[0] < 0:
        rest = _closes("VOLATILITY_INDEX", name, reference, newest[1:], before[1:])
        return np.concatenate([[np.nan], rest])
    return _closes("VOLATILITY_INDEX", name, reference, newest, before)


def _closes(variable: str, name: str, reference: pd.DataFrame, newest: NDArray[np.intp], wanted: Days) -> Series:
    """Return the closes at the rows `newest`; raise `InputError` if one is missing or too old for its day in `wanted`."""
    dates = _dates(reference.index)
    age = wanted - dates[np.maximum(newest, 0)]
    missing = (newest < 0) | (age > np.timedelta64(OLDEST, "D"))
    if missing.any():
        first = int(missing.argmax())
        last = f"the last one is of {dates[newest[first]]}" if newest[first] >= 0 else f"it begins {dates[0]}"
        raise InputError(
            f"{variable}={name}: no close of {wanted[first]} and none in the {OLDEST} days before ({last}); "
            "fetch its whole history, or use a period that it covers."
        )
    closes: Series = reference["close"].to_numpy(np.float64)[newest]
    return closes


def _dates(index: pd.Index) -> Days:
    return pd.DatetimeIndex(index).to_numpy().astype("datetime64[D]")
