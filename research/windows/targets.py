"""Labels from raw bars. Never from features or normalised prices: a threshold means nothing there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.spec import InputError, TargetSpec, canonical_json, digest_bytes


@dataclass(frozen=True, kw_only=True)
class Target:
    """One label per day that has a complete label interval."""

    spec: TargetSpec
    days: pd.DatetimeIndex
    labels: NDArray[np.int8]
    """[days]: 1 touched, 0 not, -1 where the interval runs past the last bar."""
    digest: str
    """Digest of the question, the days and the labels."""

    @property
    def n_labelled(self) -> int:
        """Days whose label is known; they come first."""
        return len(self.labels) - self.spec.horizon

    def label_ends(self, rows: NDArray[np.int64]) -> pd.DatetimeIndex:
        """Day of the last bar that each row's label depends on."""
        return self.days[rows + self.spec.horizon]


def threshold_target(frame: pd.DataFrame, spec: TargetSpec) -> Target:
    """Label of day t: 1 if max(price[t+1 .. t+horizon]) >= close[t] * (1 + threshold), price by `touch`.

    Entry is at the close of t, with all of day t known.
    """
    if spec.horizon >= len(frame):
        raise InputError(f"HORIZON={spec.horizon}: the data have only {len(frame)} sessions; give a shorter horizon.")
    close = frame["close"].to_numpy(np.float64)
    watched = frame[spec.touch].to_numpy(np.float64)
    ahead = np.lib.stride_tricks.sliding_window_view(watched[1:], spec.horizon)
    touched = ahead.max(axis=1) >= close[: len(ahead)] * (1 + spec.threshold)
    labels = np.full(len(frame), -1, dtype=np.int8)
    labels[: len(ahead)] = touched
    days = pd.DatetimeIndex(frame.index)
    digest = digest_bytes(canonical_json(spec).encode(), days.to_numpy().astype("datetime64[D]").tobytes(), labels.tobytes())
    return Target(spec=spec, days=days, labels=labels, digest=digest)
