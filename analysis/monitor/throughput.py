"""Speed of one training, and whether it has stalled, from the times of its progress reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

STALL_FACTOR = 6.0
STALL_SECONDS = 30.0
"""Silence after which a training has stalled: this many seconds and this many times its own median interval."""
RECENT = 12
"""Number of intervals behind the speed, about a minute of training."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The speed of one training."""

    step: int | None
    """Optimizer steps at the last report; None before the first."""
    steps_per_second: float | None
    """Speed over the last minute; None before the second report."""
    silent_seconds: float
    """Seconds since the last report, or since the start."""
    last_interval: float | None
    """Seconds between the last two reports."""
    median_interval: float | None
    """Median seconds between reports without the last interval: the usual interval."""

    @property
    def stall(self) -> str:
        """Description of an unusually long silence or interval; empty if there is none."""
        if self.median_interval is None or self.last_interval is None:
            return ""
        limit = max(STALL_FACTOR * self.median_interval, STALL_SECONDS)
        usual = f"the usual interval is {self.median_interval:.1f} s"
        if self.silent_seconds >= limit:
            return f"stalled? no step for {self.silent_seconds:.0f} s; {usual}"
        if self.last_interval >= limit:
            return f"slow: {self.last_interval:.0f} s between its last reports; {usual}"
        return ""


def pace_of(reports: Sequence[tuple[int, int]], started: int, now: float) -> Pace:
    """Return the pace of a training at `now`, in seconds since 1970.

    `reports` holds (time, step); these times and `started` are in milliseconds since 1970.
    """
    recent = list(pairwise(reports))[-RECENT:]
    speeds = [(b[1] - a[1]) / (b[0] - a[0]) * 1000 for a, b in recent if b[0] > a[0] and b[1] > a[1]]
    intervals = [(b - a) / 1000 for a, b in pairwise([started, *(time for time, _ in reports)])]
    return Pace(
        step=reports[-1][1] if reports else None,
        steps_per_second=median(speeds) if speeds else None,
        # Another host's clock may be ahead of the local one.
        silent_seconds=max(0.0, now - (reports[-1][0] if reports else started) / 1000),
        last_interval=intervals[-1] if intervals else None,
        median_interval=median(intervals[:-1] or intervals) if intervals else None,
    )
