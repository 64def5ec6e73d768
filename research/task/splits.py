"""Chronological splits by date, purged by label interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.errors import InputError, require
from research.spec import SplitSpec
from research.task.targets import Target

Rows = NDArray[np.int64]
SHARES = (0.65, 0.825, 1.0)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers of label days. Validation and test do not depend on the context length."""

    train: Rows
    validation: Rows
    test: Rows
    spec: SplitSpec | None = None
    """Arguments of `holdout`, for the record of a run."""


def holdout(target: Target, spec: SplitSpec, first_row: int, context_length: int) -> Split:
    """Return train, validation and test rows by date.

    A day belongs to a split only if its whole label interval ends before the next split's first day, plus
    `embargo` sessions: without this purge, a training label would already contain validation prices.
    Context may cross a border backwards, since it uses the past only.

    `first_row` is the first row with complete features; training starts one context later.
    """
    borders = [_row_after(target.days, day) for day in (spec.train_end, spec.validation_end, spec.test_end)]
    first_train = first_row + context_length - 1
    train = _purged(target, first_train, borders[0], spec.embargo)
    require(
        len(train) > 0,
        "CONTEXT",
        context_length,
        f"no training day has {context_length} days of complete features and a purged label of {target.spec.horizon} "
        f"sessions before {spec.train_end}; give a shorter context or horizon, or more history.",
    )
    return Split(
        train=train,
        validation=_purged(target, borders[0], borders[1], spec.embargo),
        test=_purged(target, borders[1], borders[2], 0),
        spec=spec,
    )


def walk_forward(
    target: Target, first_year: int, last_year: int, first_row: int, context_length: int, embargo: int = 0
) -> Iterator[Split]:
    """Yield one split per calendar year: validation is that year, training all earlier rows, purged and less the embargo.

    The test part stays empty: pooled over the years, every validation day is predicted exactly once.
    """
    require(first_year <= last_year, "YEARS", f"{first_year}-{last_year}", "give the earlier year first.")
    for year in range(first_year, last_year + 1):
        start = _row_after(target.days, date(year - 1, 12, 31))
        end = _row_after(target.days, date(year, 12, 31))
        rows = np.arange(start, min(end, target.n_labelled), dtype=np.int64)
        train = _purged(target, first_row + context_length - 1, start, embargo)
        if len(train) == 0 or len(rows) == 0:
            raise InputError(
                f"YEARS={first_year}-{last_year}: {year} has {len(rows)} labelled days and {len(train)} "
                "training days before it; give years inside the data."
            )
        yield Split(train=train, validation=rows, test=np.array([], dtype=np.int64))


def holdout_ends(days: pd.DatetimeIndex) -> tuple[date, date, date]:
    """Return the default last training, validation and test days: after 65%, 82.5% and 100% of the sessions.

    These are the shares of the bundled data's own split.
    """
    sessions = pd.DatetimeIndex(np.unique(days.to_numpy()))
    train, validation, test = (sessions[max(int(len(sessions) * share) - 1, 0)].date() for share in SHARES)
    return train, validation, test


def _row_after(days: pd.DatetimeIndex, day: date) -> int:
    return int(days.searchsorted(pd.Timestamp(day), side="right"))


def _purged(target: Target, start: int, end: int, embargo: int) -> Rows:
    """Return the rows of [start, end) whose label interval [t, t + horizon] ends before row `end`, less the embargo."""
    last = min(end - target.spec.horizon - embargo, target.n_labelled)
    return np.arange(start, max(last, start), dtype=np.int64)
