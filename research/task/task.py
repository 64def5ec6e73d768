"""A study: all that the trials and baselines of a sweep share, with what its runs say about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from research.counts import count_label
from research.data.snapshots import Snapshot
from research.data.sources import slug
from research.errors import InputError
from research.fingerprint import fingerprint
from research.models.baselines import BaselineRows
from research.spec import TRANSFORMER, StudySpec
from research.task.bayes_loss import BayesLoss, bayes_loss, has_known_answer
from research.task.build import Assembled, symbols_of
from research.task.evidence import Evidence, EvidenceFloor, evidence_of, thin_evidence
from research.task.options import StudyOptions
from research.task.windows import Prepared
from research.tracking import schema
from research.tracking.run_writer import Input, Value

NAMES_SHOWN = 3
"""Instruments that an experiment's name has room for."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """All that the trials and baselines of a sweep share, ready to train on."""

    spec: StudySpec
    snapshot: Snapshot
    prepared: Prepared
    baseline_rows: BaselineRows
    evidence: list[Evidence]
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

    def params(self) -> dict[str, Value]:
        """Parameters of the study, read back from the objects that the models are given."""
        prepared = self.prepared
        split, features = prepared.split.spec, prepared.parts[0].matrix.spec
        assert split is not None
        horizons, tasks = ({getattr(part.target.spec, name) for part in prepared.parts} for name in ("horizon", "task"))
        assert len(horizons) == len(tasks) == 1
        target = prepared.parts[0].target.spec
        return {
            "symbol": ",".join(part.symbol for part in prepared.parts),
            "validate_on": ",".join(prepared.validated),
            "feature_set": features.feature_set,
            "index": features.index or "none",
            "volatility_index": features.volatility_index or "none",
            "horizon": target.horizon,
            "task": target.kind,
            "threshold": target.threshold,
            "touch": str(target.touch),
            "shuffled": "no" if target.shuffled is None else target.shuffled,
            "train_end": str(split.train_end),
            "validation_end": str(split.validation_end),
            "test_end": str(split.test_end),
            "embargo": split.embargo,
            "windows_from": prepared.windows_from,
            "train_windows": "all" if split.train_windows is None else len(prepared.split.train),
        }

    def tags(self) -> dict[str, str]:
        """Tags that say which bytes, features and labels made a run."""
        # Whatever reads runs tells studies apart by this tag, and families are told apart wherever studies are.
        compared = self.spec if self.family == TRANSFORMER else {"study": self.spec, "family": self.family}
        tags = {
            schema.STUDY_FINGERPRINT: fingerprint(compared),
            schema.SNAPSHOT_DIGEST: self.snapshot.digest,
            schema.FEATURE_DIGEST: self.prepared.feature_digest,
            schema.TARGET_DIGEST: self.prepared.target_digest,
        }
        return {**tags, schema.THIN_EVIDENCE: "; ".join(self.thin)} if self.thin else tags

    def inputs(self) -> list[Input]:
        """Dataset inputs of a run."""
        profile = json.dumps({one.split: one.n for one in self.evidence})
        return [
            Input(
                name=f"bars-{self.snapshot.manifest.source}",
                digest=self.snapshot.digest,
                source=str(self.snapshot.folder),
                context="bars",
            ),
            Input(
                name=f"{self.spec.target.task}-h{self.spec.target.horizon}",
                digest=self.prepared.target_digest,
                source=str(self.snapshot.folder),
                context="target",
                profile=profile,
            ),
        ]

    def evidence_metrics(self) -> dict[str, float]:
        """Counts and base rates per split, for the parent run; of the test only how many days it has."""
        metrics = {f"{schema.SWEEP_PREFIX}{name}": value for name, value in self.data_metrics().items()}
        if self.bayes:
            metrics[f"{schema.SWEEP_PREFIX}bayes_loss"] = self.bayes.realised
            metrics[f"{schema.SWEEP_PREFIX}bayes_loss_expected"] = self.bayes.expected
        for one in self.evidence:
            metrics[f"{schema.SWEEP_PREFIX}{one.split}_n"] = one.n
            if one.split != "test":
                metrics[f"{schema.SWEEP_PREFIX}{one.split}_positives"] = one.positives
                metrics[f"{schema.SWEEP_PREFIX}{one.split}_base_rate"] = one.base_rate
                metrics[f"{schema.SWEEP_PREFIX}{one.split}_base_rate_se"] = one.base_rate_error
        return metrics

    def data_metrics(self) -> dict[str, float]:
        """How much there is to learn from: the axis D of a scaling law, beside the counted parameters."""
        train = next(one for one in self.evidence if one.split == "train")
        return {
            "n_train_windows": float(train.n),
            "n_train_days": float(train.days),
            # Fewer than are named where the newest windows hold none of one that ended early.
            "n_instruments": float(len(np.unique(self.prepared.symbols[self.prepared.split.train]))),
            "n_effective_windows": train.effective,
        }


def study_of(options: StudyOptions, snapshot: Snapshot, found: Assembled) -> Study:
    """The study of what was assembled; refuses what is below the evidence floor unless told otherwise."""
    evidence = evidence_of(found.prepared)
    thin = thin_evidence(evidence, EvidenceFloor())
    if thin and not options.allow_thin_evidence:
        raise InputError(
            f"too little evidence at horizon {options.horizon}: {'; '.join(thin)}. Give more data, another THRESHOLD "
            "or HORIZON, or --allow-thin-evidence, which is tagged on every run."
        )
    return Study(
        spec=found.spec,
        snapshot=snapshot,
        prepared=found.prepared,
        evidence=evidence,
        thin=thin,
        baseline_rows=baseline_rows(found),
    )


def require_same_clock(options: StudyOptions, snapshot: Snapshot) -> None:
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


def experiment_name(spec: StudySpec) -> str:
    """MLflow experiment of a study, `<data>-<task>`."""
    return f"{pool_name(spec.data.symbols)}-{spec.target.task}"


def pool_name(symbols: tuple[str, ...]) -> str:
    """One word for one or several instruments."""
    if len(symbols) <= NAMES_SHOWN:
        return "-".join(slug(symbol) for symbol in symbols)
    return f"{slug(symbols[0])}-and-{len(symbols) - 1}-{fingerprint({'symbols': list(symbols)})[:6]}"


def baseline_rows(found: Assembled, predicted: str = "validation") -> BaselineRows:
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
