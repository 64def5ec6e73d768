"""A study: all that the trials and baselines of a sweep share, with what its runs say about it."""

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
"""Instruments that an experiment's name has room for."""


@dataclass(frozen=True, kw_only=True)
class BaselineRows:
    """What the baselines see of the training and the validation rows."""

    features_train: NDArray[np.float64]
    """[rows, 25]: the last day's standardised a25s, whatever feature set the trials use."""
    features_validation: NDArray[np.float64]
    volatility_train: NDArray[np.float64]
    """[rows]: log of the exponentially weighted volatility."""
    volatility_validation: NDArray[np.float64]
    labels_train: NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that the trials and baselines of a sweep share, ready to train on."""

    spec: TaskSpec
    snapshot: Snapshot
    prepared: WindowedData
    baseline_rows: BaselineRows
    evidence: list[SplitEvidence]
    thin: list[str]
    """Splits below the evidence floor, when the user allowed them."""
    family: str = TRANSFORMER
    """What its models are: sizes are compared within a family, so that another one is another study on the same rows."""

    @property
    def experiment(self) -> str:
        """MLflow experiment, `<data>-<task>` or `<data>-<task>-<family>` of another family than the transformer."""
        name = experiment_name(self.spec)
        return name if self.family == TRANSFORMER else f"{name}-{self.family}"

    @property
    def title(self) -> str:
        """What its sweeps' names say besides the budget, for example `h1` or `h1-w4K`."""
        windows = self.spec.split.train_windows
        taken = "" if self.spec.split.windows_from == "recent" else f"-{self.spec.split.windows_from}"
        return f"h{self.spec.target.horizon}" + (f"-w{count_label(windows)}{taken}" if windows else "")

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
        """Lowest loss there is on the validation days; known of a synthetic market alone."""
        part, rows = self.prepared.parts[0], self.prepared.split.validation
        bars = self.snapshot.of(part.symbol)
        if not has_known_answer(bars, part.target.spec) or part.target.spec.shuffled is not None:
            return None
        return bayes_loss(bars, part.target.spec, rows)


def build_task(options: TaskOptions, snapshot: Snapshot, found: TaskData) -> Task:
    """The study of what was assembled; refuses what is below the evidence floor unless told otherwise."""
    evidence = evidence_of(found.prepared)
    thin = thin_evidence(evidence, EvidenceFloor())
    if thin and not options.allow_thin_evidence:
        raise InputError(
            f"too little evidence at horizon {options.horizon}: {'; '.join(thin)}. Give more data, another THRESHOLD "
            "or HORIZON, or --allow-thin-evidence, which is tagged on every run."
        )
    return Task(
        spec=found.spec,
        snapshot=snapshot,
        prepared=found.prepared,
        evidence=evidence,
        thin=thin,
        baseline_rows=baseline_rows(found),
    )


def require_same_clock(options: TaskOptions, snapshot: Snapshot) -> None:
    """A reference must trade where the instrument does: another exchange's close of the same date may come hours later."""
    calendars = {symbol: facts.get("calendar", "") for symbol, facts in snapshot.manifest.instruments.items()}
    for field, reference in {"INDEX": options.index, "VOLATILITY_INDEX": options.volatility_index}.items():
        for symbol in symbols_of(options, snapshot.bars) if reference else ():
            own, other = calendars.get(symbol, ""), calendars.get(reference, "")
            if own and other and own != other:
                raise InputError(
                    f"{field}={reference}: it trades by {other} and {symbol} by {own}, whose closes of one date are hours "
                    "apart; give a reference of the same exchange."
                )


def experiment_name(spec: TaskSpec) -> str:
    """MLflow experiment of a study, `<data>-<task>`."""
    return f"{pool_name(spec.data.symbols)}-{spec.target.name}"


def pool_name(symbols: tuple[str, ...]) -> str:
    """One word for one or several instruments."""
    if len(symbols) <= NAMES_SHOWN:
        return "-".join(slug(symbol) for symbol in symbols)
    return f"{slug(symbols[0])}-and-{len(symbols) - 1}-{fingerprint({'symbols': list(symbols)})[:6]}"


def baseline_rows(found: TaskData, predicted: str = "validation") -> BaselineRows:
    """The last day of each window, as the baselines see it, of the training rows and of the split that is predicted."""
    stationary = found.stationary
    values = stationary.standardised.astype(np.float64)
    train, rows = stationary.split.train, getattr(stationary.split, predicted)
    return BaselineRows(
        features_train=values[train],
        features_validation=values[rows],
        volatility_train=found.volatility[train],
        volatility_validation=found.volatility[rows],
        labels_train=stationary.labels_of("train"),
    )
