"""One line of the bench table: what was measured, beside what, and how far it may go."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A measurement. Ratios of one run can be compared between machines, seconds cannot."""

    name: str
    seconds: float
    reference: float | None = None
    """Seconds of what it is compared with, on the same machine a moment before or after."""
    most_ratio: float | None = None
    """Target: at most this part of the reference."""
    most_seconds: float | None = None
    """Target: at most so many seconds."""

    @property
    def ratio(self) -> float | None:
        """Measured part of the reference."""
        return None if self.reference is None else self.seconds / self.reference

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None for a row that is only there to compare with."""
        if self.most_ratio is not None:
            assert self.ratio is not None
            return self.ratio <= self.most_ratio
        return None if self.most_seconds is None else self.seconds <= self.most_seconds


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def typical(work: Callable[[int], object], times: int) -> float:
    """Median seconds of the work, called with 0, 1, 2 ...; the first call warms up and is not counted."""
    return median([timed(lambda number=number: work(number)) for number in range(times + 1)][1:])  # type: ignore[misc]


def in_turn(measures: Sequence[Callable[[], float]], times: int) -> list[float]:
    """Median of each measurement; the first round warms up and is not counted."""
    # One after the other, so that whatever else the machine does meets all.
    rounds = [[measure() for measure in measures] for _ in range(times + 1)]
    return [median(values) for values in zip(*rounds[1:], strict=True)]


def cells(row: Measurement) -> tuple[str, ...]:
    """One line as text; a row without a target is there to compare with."""
    target = "" if row.most_ratio is None else f"{row.most_ratio:.3f}"
    target = target if row.most_seconds is None else f"{row.most_seconds:g} s"
    return (
        row.name,
        _seconds(row.seconds),
        "" if row.reference is None else _seconds(row.reference),
        "" if row.ratio is None else f"{row.ratio:.3f}",
        target,
        {True: "yes", False: "no", None: ""}[row.met],
    )


def _seconds(value: float) -> str:
    """Three digits where there are that many."""
    return f"{value:.3f}" if value >= 0.1 else f"{value:.3g}"
