"""Walk-forward of the baselines: models fitted on all earlier days, purged, predict each year."""

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
"""Training windows required before the first predicted year, if the user gives no years."""


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """Predictions of the baselines for every day of the years."""

    target: TargetSpec
    years: tuple[int, int]
    days: pd.DatetimeIndex
    symbols: NDArray[np.str_]
    labels: NDArray[np.int8]
    logits: dict[str, Array]
    """One logit per row, by baseline."""

    def table(self) -> pd.DataFrame:
        """Return one row per predicted day and instrument, with a column of probabilities per baseline."""
        probabilities = {name: expit(logits) for name, logits in self.logits.items()}
        return pd.DataFrame({"date": self.days, "symbol": self.symbols, "label": self.labels, **probabilities})


@dataclass(frozen=True, kw_only=True)
class BaselineResult:
    """Result of one baseline over all years."""

    baseline: str
    loss: Difference
    """Mean log loss with its 95% interval over days."""
    skill: float
    """1 - loss / loss of the training prior."""
    auc: float
    auc_se: float
    against_prior: Difference
    """Loss minus the loss of the training prior, paired by day."""


def forecasts(data: TaskData, years: tuple[int, int], names: Sequence[str] = tuple(BASELINES)) -> Iterator[Forecasts]:
    """Yield the predictions of each year. Raise `InputError` if a year has no labelled days or no training days."""
    for year in range(years[0], years[1] + 1):
        fold = _fold(data, year)
        rows, prepared = baseline_rows(fold), fold.stationary
        predicted = prepared.split.validation
        yield Forecasts(
            target=data.spec.target,
            years=(year, year),
            days=prepared.days[predicted],
            symbols=np.array([part.symbol for part in prepared.parts])[prepared.symbols[predicted]],
            labels=prepared.labels_of("validation"),
            logits={name: logits_of(BASELINES[name](rows)) for name in names},
        )


def pooled(folds: Sequence[Forecasts]) -> Forecasts:
    """Return the concatenated predictions of all years."""
    return Forecasts(
        target=folds[0].target,
        years=(folds[0].years[0], folds[-1].years[1]),
        days=pd.DatetimeIndex(np.concatenate([fold.days.to_numpy() for fold in folds])),
        symbols=np.concatenate([fold.symbols for fold in folds]),
        labels=np.concatenate([fold.labels for fold in folds]),
        logits={name: np.concatenate([fold.logits[name] for fold in folds]) for name in folds[0].logits},
    )


def standings(data: Forecasts) -> list[BaselineResult]:
    """Return the loss, the AUC and the paired distance to the training prior of each baseline."""
    days = data.days.to_numpy()
    losses = {name: daily_means(row_losses(logits, data.labels), days) for name, logits in data.logits.items()}
    prior = losses["prior"]
    rows = []
    for name, loss in losses.items():
        auc, auc_se = auc_with_error(data.logits[name], data.labels, days)
        rows.append(
            BaselineResult(
                baseline=name,
                loss=paired_difference(loss, np.zeros_like(loss)),
                skill=1 - float(loss.mean() / prior.mean()),
                auc=auc,
                auc_se=auc_se,
                against_prior=paired_difference(loss, prior),
            )
        )
    return rows


def years_of(data: TaskData, text: str) -> tuple[int, int]:
    """Parse `2005-2018`; an empty text gives all years with enough training windows before them."""
    if text:
        ends = re.fullmatch(r"([1-9]\d{3})-([1-9]\d{3})", text)
        if not ends or ends[1] > ends[2]:
            raise InputError(f"YEARS={text}: give a first and a last year, as in 2005-2018.")
        return int(ends[1]), int(ends[2])
    prepared = data.stationary
    rows = np.concatenate([prepared.split.train, prepared.split.validation, prepared.split.test])
    years = np.sort(prepared.days[rows].year)
    if len(years) <= ENOUGH_WINDOWS:
        raise InputError(f"YEARS=: there are only {len(years):,} labelled days; give YEARS, or more data.")
    return int(years[ENOUGH_WINDOWS]) + 1, int(years[-1])


def _fold(data: TaskData, year: int) -> TaskData:
    """Return the same instruments, validated on one year and trained on all earlier days."""
    prepared = data.stationary
    length = prepared.context_length
    parts = []
    for part in prepared.parts:
        try:
            (split,) = walk_forward(part.target, year, year, part.matrix.first_row, length, data.spec.split.embargo)
        except InputError as error:
            raise InputError(f"{part.symbol}: {error}") from None
        parts.append(replace(part, split=split))
    fold = stack_windows(parts, length, validate_on=prepared.validated)
    return replace(data, prepared=fold, stationary=fold)
