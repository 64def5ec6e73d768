"""Labels from raw bars, never from features or normalised prices, in which a threshold has no meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.errors import InputError
from research.fingerprint import canonical_json, digest_bytes
from research.spec import TargetKind, TargetSpec

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Target:
    """One label per day that has a complete label interval."""

    spec: TargetSpec
    days: pd.DatetimeIndex
    labels: NDArray[np.int8]
    """[days]: 1 yes, 0 no, -1 if the interval extends beyond the last bar."""
    digest: str
    """Digest of the target spec, the days and the labels."""

    @property
    def n_labelled(self) -> int:
        """Number of days with a known label; they come first."""
        return len(self.labels) - self.spec.horizon

    def label_ends(self, rows: NDArray[np.int64]) -> pd.DatetimeIndex:
        """Return the day of the last bar that each row's label depends on."""
        return self.days[rows + self.spec.horizon]


def label(frame: pd.DataFrame, spec: TargetSpec) -> Target:
    """Label each day t from the bars t .. t+horizon; entry is at the close of t, with all of day t known."""
    if spec.horizon >= len(frame):
        raise InputError(f"HORIZON={spec.horizon}: the data have only {len(frame)} sessions; give a shorter horizon.")
    close, watched = (frame[column].to_numpy(np.float64) for column in ("close", spec.touch))
    ahead = np.lib.stride_tricks.sliding_window_view(watched[1:], spec.horizon)
    hits = np.asarray(CONDITIONS[spec.kind](close[: -spec.horizon], ahead, spec.threshold))
    if spec.shuffled is not None:
        hits = np.random.default_rng(spec.shuffled).permutation(hits)
    labels = np.full(len(frame), -1, dtype=np.int8)
    labels[: len(hits)] = hits
    days = pd.DatetimeIndex(frame.index)
    digest = digest_bytes(canonical_json(spec).encode(), days.to_numpy().astype("datetime64[D]").tobytes(), labels.tobytes())
    return Target(spec=spec, days=days, labels=labels, digest=digest)


CONDITIONS: dict[TargetKind, Callable[[Array, Array, float], NDArray[np.bool_]]] = {
    "threshold": lambda entry, ahead, move: ahead.max(axis=1) >= entry * (1 + move),
    "downside": lambda entry, ahead, move: ahead.min(axis=1) <= entry * (1 - move),
    "end": lambda entry, ahead, move: ahead[:, -1] >= entry * (1 + move),
    "direction": lambda entry, ahead, move: ahead[:, -1] > entry,
}
"""By kind: (close of day t [days], watched price of days t+1 .. t+horizon [days, horizon], threshold) -> label is 1."""
