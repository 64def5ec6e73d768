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
    """[days]: 1 yes, 0 no, -1 where the interval runs past the last bar."""
    digest: str
    """Digest of the question, the days and the labels."""

    @property
    def n_labelled(self) -> int:
        """Days whose label is known; they come first."""
        return len(self.labels) - self.spec.horizon

    def label_ends(self, rows: NDArray[np.int64]) -> pd.DatetimeIndex:
        """Day of the last bar that each row's label depends on."""
        return self.days[rows + self.spec.horizon]


def label(frame: pd.DataFrame, spec: TargetSpec) -> Target:
    """Label of day t, from the bars t .. t+horizon; entry is at the close of t, with all of day t known.

    threshold   max(price[t+1 .. t+horizon]) >= close[t] * (1 + threshold), price by `touch`
    downside    min(price[t+1 .. t+horizon]) <= close[t] * (1 - threshold), price by `touch`
    end         close[t+horizon] >= close[t] * (1 + threshold)
    direction   close[t+horizon] > close[t]
    """
    if spec.horizon >= len(frame):
        raise InputError(f"HORIZON={spec.horizon}: the data have only {len(frame)} sessions; give a shorter horizon.")
    answers = _answers(frame["close"].to_numpy(np.float64), frame[spec.touch].to_numpy(np.float64), spec)
    if spec.shuffled is not None:
        answers = np.random.default_rng(spec.shuffled).permutation(answers)
    labels = np.full(len(frame), -1, dtype=np.int8)
    labels[: len(answers)] = answers
    days = pd.DatetimeIndex(frame.index)
    digest = digest_bytes(canonical_json(spec).encode(), days.to_numpy().astype("datetime64[D]").tobytes(), labels.tobytes())
    return Target(spec=spec, days=days, labels=labels, digest=digest)


def _answers(close: NDArray[np.float64], watched: NDArray[np.float64], spec: TargetSpec) -> NDArray[np.bool_]:
    entry, last = close[: -spec.horizon], watched[spec.horizon :]
    ahead = np.lib.stride_tricks.sliding_window_view(watched[1:], spec.horizon)
    if spec.kind == "threshold":
        return np.asarray(ahead.max(axis=1) >= entry * (1 + spec.threshold))
    if spec.kind == "downside":
        return np.asarray(ahead.min(axis=1) <= entry * (1 - spec.threshold))
    if spec.kind == "end":
        return last >= entry * (1 + spec.threshold)
    return last > entry
