"""The budgets and horizons of a study: how they are typed, in which order they run, and how long the rest will take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean

from research.counts import count_label, parse_count
from research.errors import InputError, require
from research.models.budget import Budget

STEPS = {"": 1, "half": 2}
"""Budgets per decade, by the word after the slash."""


@dataclass(frozen=True, kw_only=True)
class StudySweep:
    """One sweep of a study."""

    budget: Budget
    horizon: int
    windows: int | None = None
    """Number of training windows; None for all available."""

    @property
    def title(self) -> str:
        """Return the name of the sweep, for example `20K-h1` or `20K-h1-w4K`."""
        return f"{self.budget.label}-h{self.horizon}" + (f"-w{count_label(self.windows)}" if self.windows else "")

    @property
    def row(self) -> str:
        """Return the label of the table row, for example `20K` or `20K, 4K windows`."""
        return self.budget.label + (f", {count_label(self.windows)} windows" if self.windows else "")


@dataclass(frozen=True, kw_only=True)
class SweepCost:
    """Inputs of the remaining-time estimate for one sweep."""

    flops: float
    """FLOPs of one epoch of a typical architecture."""
    trials_left: int
    seconds: float | None = None
    """Measured seconds per trial; None if no trial was trained."""


def parse_budgets(text: str) -> list[Budget]:
    """Parse `20K,200K`, `2K..2M` (decades), `2K..2M/half` (half decades) or a mix into distinct ascending budgets."""
    counts = {count for part in text.split(",") for count in _parse_part(part.strip(), text)}
    return [Budget(n_parameters=count) for count in sorted(counts)]


def parse_windows(text: str) -> list[int | None]:
    """Parse `1K,4K,16K` into distinct ascending numbers of training windows; an empty text gives [None], all windows."""
    if not text:
        return [None]
    return [*sorted({parse_count(part, "WINDOWS", "training windows") for part in text.split(",")})]


def study_sweeps(
    budgets: Sequence[Budget], horizons: Sequence[int], windows: Sequence[int | None] = (None,)
) -> list[StudySweep]:
    """Return all combinations, cheapest first: by budget, training windows, then horizon, which does not change the cost."""
    typed = ",".join(map(str, horizons))
    require(bool(horizons) and min(horizons) >= 1, "HORIZONS", typed, "give whole numbers of sessions, as in 1,3,5.")
    ordered = sorted(set(budgets), key=lambda budget: budget.n_parameters)
    combinations = product(ordered, windows, sorted(set(horizons)))
    return [StudySweep(budget=budget, horizon=horizon, windows=count) for budget, count, horizon in combinations]


def seconds_left(costs: Sequence[SweepCost]) -> float | None:
    """Return the estimated seconds for all remaining trials; None if trials remain and none was measured.

    A sweep without a measurement takes the time of the sweeps nearest in size, scaled by FLOPs. Sweeps further away
    are not used, because costs other than FLOPs weigh too much there.
    """
    measured = [cost for cost in costs if cost.seconds is not None]
    waiting = [cost for cost in costs if cost.trials_left]
    if waiting and not measured:
        return None
    total = 0.0
    for cost in waiting:
        seconds = cost.seconds
        if seconds is None:
            distances = [abs(math.log(cost.flops / other.flops)) for other in measured]
            nearest = [other for other, distance in zip(measured, distances, strict=True) if distance == min(distances)]
            seconds = fmean((other.seconds or 0.0) * cost.flops / other.flops for other in nearest)
        total += cost.trials_left * seconds
    return total


def busy_seconds(spans: Iterable[tuple[int, int]]) -> float:
    """Return the length in seconds of the union of (start, end) spans in milliseconds: overlaps count once, pauses do not."""
    total, covered_until = 0, 0
    for start, end in sorted(spans):
        total += max(end - max(start, covered_until), 0)
        covered_until = max(covered_until, end)
    return total / 1000


def _parse_part(part: str, text: str) -> list[int]:
    """Return the parameter counts of one comma-separated part of `text`."""
    ends, slash, step = part.partition("/")
    first, dots, last = ends.partition("..")
    if not dots:
        require(not slash, "BUDGETS", text, f"{part} has a step but no end; give a range, as in 2K..2M/half.")
        return [_parse_count(first, text)]
    word = step.strip().lower()
    fix = f"the step {word or 'after the slash'} is unknown; give 2K..2M/half for half decades or 2K..2M for decades."
    require(word in STEPS and bool(slash) == bool(word), "BUDGETS", text, fix)
    return _range(_parse_count(first, text), _parse_count(last, text), STEPS[word], text)


def _range(first: int, last: int, per_decade: int, text: str) -> list[int]:
    """Return all budgets from `first` to `last`. Whole decades are exact; steps between them have one significant digit."""
    start, end = (Budget(n_parameters=count).label for count in (first, last))
    require(first <= last, "BUDGETS", text, f"{end} is smaller than {start}; give the smaller end first.")
    counts = [first]
    while counts[-1] < last:
        decades, rest = divmod(len(counts), per_decade)
        decade = first * 10**decades
        counts.append(int(float(f"{decade * 10 ** (rest / per_decade):.0e}")) if rest else decade)
    nearest = min(counts[-2:], key=lambda count: abs(math.log(count / last)))
    fix = f"{end} is not a step of the range from {start}; the nearest is {Budget(n_parameters=nearest).label}."
    require(counts[-1] == last, "BUDGETS", text, fix)
    return counts


def _parse_count(text: str, budgets: str) -> int:
    try:
        return Budget.parse(text).n_parameters
    except InputError:
        fix = "give a list like 20K,200K,2M or a range like 2K..2M/half."
        raise InputError(f"BUDGETS={budgets}: {text.strip() or 'nothing'} is no number of parameters; {fix}") from None
