"""The rungs of a ladder of sweeps: budgets as they are typed, their order, and how long the rest will take."""

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
"""Rungs per decade by the word after the slash."""


@dataclass(frozen=True, kw_only=True)
class StudySweep:
    """One sweep of the ladder."""

    budget: Budget
    horizon: int
    windows: int | None = None
    """Training windows; all there are if None."""

    @property
    def title(self) -> str:
        """Name of its sweep, for example `20K-h1` or `20K-h1-w4K`."""
        return f"{self.budget.label}-h{self.horizon}" + (f"-w{count_label(self.windows)}" if self.windows else "")

    @property
    def row(self) -> str:
        """What the lines of the overall view are told apart by, for example `20K` or `20K, 4K windows`."""
        return self.budget.label + (f", {count_label(self.windows)} windows" if self.windows else "")


@dataclass(frozen=True, kw_only=True)
class SweepCost:
    """What the time left is estimated from, for one rung."""

    flops: float
    """Of one epoch of a typical architecture."""
    trials_left: int
    seconds: float | None = None
    """Measured for one of its trials; None if none was trained."""


def parse_budgets(text: str) -> list[Budget]:
    """Read `20K,200K`, `2K..2M` (decades), `2K..2M/half` (half decades) or a mix: each budget once, smallest first."""
    counts = {count for part in text.split(",") for count in _counts(part.strip(), text)}
    return [Budget(n_parameters=count) for count in sorted(counts)]


def parse_windows(text: str) -> list[int | None]:
    """Read `1K,4K,16K`: each number of training windows once, smallest first; without any, all windows there are."""
    if not text:
        return [None]
    return [*sorted({parse_count(part, "WINDOWS", "training windows") for part in text.split(",")})]


def rungs_of(budgets: Sequence[Budget], horizons: Sequence[int], windows: Sequence[int | None] = (None,)) -> list[StudySweep]:
    """All combinations, cheapest first: by budget, then by training windows; a horizon costs nothing and comes last."""
    told = ",".join(map(str, horizons))
    require(bool(horizons) and min(horizons) >= 1, "HORIZONS", told, "give whole numbers of sessions, as in 1,3,5.")
    ordered = sorted(set(budgets), key=lambda budget: budget.n_parameters)
    combined = product(ordered, windows, sorted(set(horizons)))
    return [StudySweep(budget=budget, horizon=horizon, windows=count) for budget, count, horizon in combined]


def seconds_left(efforts: Sequence[SweepCost]) -> float | None:
    """Time for all trials that are left; None before anything was measured."""
    measured = [one for one in efforts if one.seconds is not None]
    waiting = [one for one in efforts if one.trials_left]
    if waiting and not measured:
        return None
    return sum(one.trials_left * _seconds_of_a_trial(one, measured) for one in waiting)


def busy_seconds(spans: Iterable[tuple[int, int]]) -> float:
    """Length of the union of spans in milliseconds: what trials took on the wall, side by side or with pauses between."""
    total, reached = 0, 0
    for start, end in sorted(spans):
        total += max(end - max(start, reached), 0)
        reached = max(reached, end)
    return total / 1000


def _seconds_of_a_trial(one: SweepCost, measured: Sequence[SweepCost]) -> float:
    """Its own, or that of the rungs nearest in size, scaled by FLOPs: far away other costs than FLOPs weigh too much."""
    if one.seconds is not None:
        return one.seconds
    nearest = min(_distance(one, other) for other in measured)
    close = [other for other in measured if _distance(one, other) == nearest]
    return fmean((other.seconds or 0.0) * one.flops / other.flops for other in close)


def _distance(one: SweepCost, other: SweepCost) -> float:
    return abs(math.log(one.flops / other.flops))


def _counts(part: str, text: str) -> list[int]:
    """Parameters of the budgets that one part between commas stands for."""
    ends, slash, step = part.partition("/")
    first, dots, last = ends.partition("..")
    if not dots:
        require(not slash, "BUDGETS", text, f"{part} has a step but no end; give a range, as in 2K..2M/half.")
        return [_count(first, text)]
    word = step.strip().lower()
    fix = f"the step {word or 'after the slash'} is unknown; give 2K..2M/half for half decades or 2K..2M for decades."
    require(word in STEPS and bool(slash) == bool(word), "BUDGETS", text, fix)
    return _range(_count(first, text), _count(last, text), STEPS[word], text)


def _range(first: int, last: int, per_decade: int, text: str) -> list[int]:
    """All rungs between two ends, both of which must be rungs."""
    label = Budget(n_parameters=last).label
    start = Budget(n_parameters=first).label
    require(first <= last, "BUDGETS", text, f"{label} is smaller than {start}; give the smaller end first.")
    rungs = [first]
    while rungs[-1] < last:
        rungs.append(_rung(first, len(rungs), per_decade))
    nearest = min(rungs[-2:], key=lambda rung: abs(math.log(rung / last)))
    fix = f"{label} is no rung of the ladder that starts at {start}; the nearest is {Budget(n_parameters=nearest).label}."
    require(rungs[-1] == last, "BUDGETS", text, fix)
    return rungs


def _rung(first: int, index: int, per_decade: int) -> int:
    """Whole decades are exact; what lies between them is rounded to one significant digit."""
    decades, rest = divmod(index, per_decade)
    decade = first * 10**decades
    return int(float(f"{decade * 10 ** (rest / per_decade):.0e}")) if rest else decade


def _count(text: str, budgets: str) -> int:
    try:
        return Budget.parse(text).n_parameters
    except InputError:
        fix = "give a list like 20K,200K,2M or a range like 2K..2M/half."
        raise InputError(f"BUDGETS={budgets}: {text.strip() or 'nothing'} is no number of parameters; {fix}") from None
