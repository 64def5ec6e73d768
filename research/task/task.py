"""A task: the data, split and evidence that the trials and baselines of a sweep share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from research.counts import count_label
from research.data.snapshots import Snapshot
from research.data.sources import slug
from research.errors import InputError
from research.fingerprint import fingerprint
from research.spec import TRANSFORMER, TaskSpec
from research.task.bayes_loss import BayesLoss, bayes_loss, has_known_answer
from research.task.build import TaskData, symbols_of
from research.task.evidence import EvidenceFloor, SplitEvidence, evidence_of, thin_evidence
from research.task.options import TaskOptions
from research.task.windows import WindowedData

NAMES_SHOWN = 3
"""Largest number of instruments that an experiment's name lists."""


@dataclass(frozen=True, kw_only=True)
class BaselineRows:
    """Features, volatility and labels that the baselines are fitted on and predict from."""

    features_train: NDArray[np.float64]
    """[rows, 25]: the last day's standardised a25s, whatever feature set the trials use."""
    features_validation: NDArray[np.float64]
    volatility_train: NDArray[np.float64]
    """[rows]: log of the exponentially weighted volatility."""
    volatility_validation: NDArray[np.float64]
    labels_train: NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, split and evidence of a sweep, ready for training."""

    spec: TaskSpec
    snapshot: Snapshot
    prepared: WindowedData
    baseline_rows: BaselineRows
    evidence: list[SplitEvidence]
    thin: list[str]
    """Splits below the evidence floor, when the user allowed them."""
    family: str = TRANSFORMER
    """Family of the models. Sizes are comparable within a family only, so that another family has another experiment."""

    @property
    def experiment(self) -> str:
        """MLflow experiment, `<data>-<task>` or `<data>-<task>-<family>` for families other than the transformer."""
        name = experiment_name(self.spec)
        return name if self.family == TRANSFORMER else f"{name}-{self.family}"

    @property
    def title(self) -> str:
        """Part of a sweep's name after the budget, for example `h1` or `h1-w4K`."""
        windows = self.spec.split.train_windows
        selection = "" if self.spec.split.windows_from == "recent" else f"-{self.spec.split.windows_from}"
        return f"h{self.spec.target.horizon}" + (f"-w{count_label(windows)}{selection}" if windows else "")

    @property
    def training_base_rate(self) -> float:
        """Share of positive training labels."""
        return float(self.prepared.labels_of("train").mean())

    @property
    def validation_days(self) -> NDArray[np.datetime64]:
        """Day of each validation row; instruments share them."""
        days: NDArray[np.datetime64] = self.prepared.days[self.prepared.split.validation].to_numpy()
        return days

    @cached_property
    def bayes(self) -> BayesLoss | None:
        """Lowest possible loss on the validation days; known for a synthetic market only."""
        part, rows = self.prepared.parts[0], self.prepared.split.validation
        bars = self.snapshot.of(part.symbol)
        if not has_known_answer(bars, part.target.spec) or part.target.spec.shuffled is not None:
            return None
        return bayes_loss(bars, part.target.spec, rows)


def build_task(options: TaskOptions, snapshot: Snapshot, assembled: TaskData) -> Task:
    """Return the task of assembled data; `InputError` below the evidence floor, unless the options allow it."""
    evidence = evidence_of(assembled.prepared)
    thin = thin_evidence(evidence, EvidenceFloor())
    if thin and not options.allow_thin_evidence:
        raise InputError(
            f"too little evidence at horizon {options.horizon}: {'; '.join(thin)}. Give more data, another THRESHOLD "
            "or HORIZON, or --allow-thin-evidence, which is tagged on every run."
        )
    return Task(
        spec=assembled.spec,
        snapshot=snapshot,
        prepared=assembled.prepared,
        evidence=evidence,
        thin=thin,
        baseline_rows=baseline_rows(assembled),
    )


def require_same_clock(options: TaskOptions, snapshot: Snapshot) -> None:
    """Raise `InputError` if a reference has another trading calendar: its close of the same date may be hours later."""
    calendars = {symbol: facts.get("calendar", "") for symbol, facts in snapshot.manifest.instruments.items()}
    for field, reference in {"INDEX": options.index, "VOLATILITY_INDEX": options.volatility_index}.items():
        for symbol in symbols_of(options, snapshot.bars) if reference else ():
            own, other = calendars.get(symbol, ""), calendars.get(reference, "")
            if own and other and own != other:
                raise InputError(
                    f"{field}={reference}: its calendar is {other} and that of {symbol} is {own}, with closes hours apart; "
                    "give a reference of the same exchange."
                )


def experiment_name(spec: TaskSpec) -> str:
    """Return the MLflow experiment of a task, `<data>-<task>`."""
    return f"{pool_name(spec.data.symbols)}-{spec.target.name}"


def pool_name(symbols: tuple[str, ...]) -> str:
    """Return one word for one or several instruments."""
    if len(symbols) <= NAMES_SHOWN:
        return "-".join(slug(symbol) for symbol in symbols)
    return f"{slug(symbols[0])}-and-{len(symbols) - 1}-{fingerprint({'symbols': list(symbols)})[:6]}"


def baseline_rows(assembled: TaskData, predicted: str = "validation") -> BaselineRows:
    """Return the last day of each window, for the training rows and for the split to predict."""
    stationary = assembled.stationary
    values = stationary.standardised.astype(np.float64)
    train, rows = stationary.split.train, getattr(stationary.split, predicted)
    return BaselineRows(
        features_train=values[train],
        features_validation=values[rows],
        volatility_train=assembled.volatility[train],
        volatility_validation=assembled.volatility[rows],
        labels_train=stationary.labels_of("train"),
    )
