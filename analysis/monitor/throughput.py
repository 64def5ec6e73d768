"""How fast one training moves, and whether it has stalled, read from the moments at which it told its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

STALL_FACTOR = 6.0
STALL_SECONDS = 30.0
"""A training has stalled when it is silent for this long and for this many times its own median interval."""
RECENT = 12
"""Intervals that the speed is taken from, a minute of training."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The speed of one training."""

    step: int | None
    """Optimizer steps done when it was last heard of; None if it has not been heard of."""
    steps_per_second: float | None
    """Over the last minute; None until it was heard of twice."""
    silent_seconds: float
    """Since it was last heard of, or since its start."""
    last_interval: float | None
    """Seconds between the last two times it was heard of."""
    median_interval: float | None
    """Median of all these intervals, the last one left out: what is usual for it."""

    @property
    def stall(self) -> str:
        """What is unusual, with its numbers; empty if nothing is."""
        if self.median_interval is None or self.last_interval is None:
            return ""
        limit = max(STALL_FACTOR * self.median_interval, STALL_SECONDS)
        usual = f"usual for it are {self.median_interval:.1f} s"
        if self.silent_seconds >= limit:
            return f"stalled? no step for {self.silent_seconds:.0f} s; {usual}"
        if self.last_interval >= limit:
            return f"slow: {self.last_interval:.0f} s between its last reports; {usual}"
        return ""


def pace_of(moments: Sequence[tuple[int, int]], started: int, now: float) -> Pace:
    """Pace at `now` (seconds since 1970) of a training that told (milliseconds, step) and started at a millisecond."""
    recent = list(pairwise(moments))[-RECENT:]
    speeds = [(b[1] - a[1]) / (b[0] - a[0]) * 1000 for a, b in recent if b[0] > a[0] and b[1] > a[1]]
    intervals = [(b - a) / 1000 for a, b in pairwise([started, *(at for at, _ in moments)])]
    return Pace(
        step=moments[-1][1] if moments else None,
        steps_per_second=median(speeds) if speeds else None,
        # Another host's clock may be ahead of ours.
        silent_seconds=max(0.0, now - (moments[-1][0] if moments else started) / 1000),
        last_interval=intervals[-1] if intervals else None,
        median_interval=median(intervals[:-1] or intervals) if intervals else None,
    )
