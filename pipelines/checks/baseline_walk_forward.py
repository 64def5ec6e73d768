"""The baselines year by year: each year's days are predicted by models fitted on everything before, purged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from research.errors import InputError
from research.evaluation.metrics import auc_with_error, logits_of, row_losses
from research.evaluation.significance import Difference, daily_means, paired_difference
from research.models.baselines import BASELINES
from research.spec import TargetSpec
from research.task.build import TaskData
from research.task.splits import walk_forward
from research.task.task import baseline_rows
from research.task.windows import stack_windows

Array = NDArray[np.float64]
ENOUGH_WINDOWS = 1000
"""Training windows that the first year has before it where the user names no year."""


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """What the baselines said of every day of the years."""

    target: TargetSpec
    years: tuple[int, int]
    days: pd.DatetimeIndex
    symbols: NDArray[np.str_]
    labels: NDArray[np.int8]
    logits: dict[str, Array]
    """Baseline -> one logit per row."""

    def table(self) -> pd.DataFrame:
        """One row per predicted day and instrument, a column of probabilities per baseline."""
        said = {name: expit(logits) for name, logits in self.logits.items()}
        return pd.DataFrame({"date": self.days, "symbol": self.symbols, "label": self.labels, **said})


@dataclass(frozen=True, kw_only=True)
class BaselineResult:
    """How one baseline did over all years."""

    baseline: str
    loss: Difference
    """Mean log loss with the 95% interval of the days' noise."""
    skill: float
    """1 - loss / loss of the training prior."""
    auc: float
    auc_se: float
    against_prior: Difference
    """Loss minus the training prior's, paired by day."""


def forecasts(found: TaskData, years: tuple[int, int], names: Sequence[str] = tuple(BASELINES)) -> Iterator[Forecasts]:
    """One `Forecasts` per year. `InputError` if a year has no labelled or no training days."""
    for year in range(years[0], years[1] + 1):
        fold = _fold(found, year)
        rows, prepared = baseline_rows(fold), fold.stationary
        predicted = prepared.split.validation
        yield Forecasts(
            target=found.spec.target,
            years=(year, year),
            days=prepared.days[predicted],
            symbols=np.array([part.symbol for part in prepared.parts])[prepared.symbols[predicted]],
            labels=prepared.labels_of("validation"),
            logits={name: logits_of(BASELINES[name](rows)) for name in names},
        )


def pooled(folds: Sequence[Forecasts]) -> Forecasts:
    """All years as one."""
    return Forecasts(
        target=folds[0].target,
        years=(folds[0].years[0], folds[-1].years[1]),
        days=pd.DatetimeIndex(np.concatenate([fold.days.to_numpy() for fold in folds])),
        symbols=np.concatenate([fold.symbols for fold in folds]),
        labels=np.concatenate([fold.labels for fold in folds]),
        logits={name: np.concatenate([fold.logits[name] for fold in folds]) for name in folds[0].logits},
    )


def standings(found: Forecasts) -> list[BaselineResult]:
    """Loss, ranking and paired distance to the training prior of each baseline."""
    days = found.days.to_numpy()
    losses = {name: daily_means(row_losses(logits, found.labels), days) for name, logits in found.logits.items()}
    prior = losses["prior"]
    rows = []
    for name, mine in losses.items():
        auc, auc_se = auc_with_error(found.logits[name], found.labels, days)
        rows.append(
            BaselineResult(
                baseline=name,
                loss=paired_difference(mine, np.zeros_like(mine)),
                skill=1 - float(mine.mean() / prior.mean()),
                auc=auc,
                auc_se=auc_se,
                against_prior=paired_difference(mine, prior),
            )
        )
    return rows


def years_of(found: TaskData, text: str) -> tuple[int, int]:
    """Read `2005-2018`; without text, from the first year with enough training windows before it to the last."""
    if text:
        ends = re.fullmatch(r"([1-9]\d{3})-([1-9]\d{3})", text)
        if not ends or ends[1] > ends[2]:
            raise InputError(f"YEARS={text}: give a first and a last year, as in 2005-2018.")
        return int(ends[1]), int(ends[2])
    prepared = found.stationary
    rows = np.concatenate([prepared.split.train, prepared.split.validation, prepared.split.test])
    years = np.sort(prepared.days[rows].year)
    if len(years) <= ENOUGH_WINDOWS:
        raise InputError(f"YEARS=: there are {len(years):,} labelled days in all; give YEARS, or more data.")
    return int(years[ENOUGH_WINDOWS]) + 1, int(years[-1])


def _fold(found: TaskData, year: int) -> TaskData:
    """The same instruments, validated on one year and trained on all before it."""
    prepared = found.stationary
    length = prepared.context_length
    parts = []
    for part in prepared.parts:
        try:
            (split,) = walk_forward(part.target, year, year, part.matrix.first_row, length, found.spec.split.embargo)
        except InputError as problem:
            raise InputError(f"{part.symbol}: {problem}") from None
        parts.append(replace(part, split=split))
    fold = stack_windows(parts, length, validate_on=prepared.validated)
    return replace(found, prepared=fold, stationary=fold)
