"""From options to a study: bars -> snapshot -> features -> targets -> split, each step with its digest."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from pipelines.ingest import ingest
from pipelines.options import StudyOptions
from research.data.snapshots import Snapshot
from research.data.sources import slug
from research.features.feature_sets import A25S, build, feature_set_named
from research.features.indicators import ewma_volatility
from research.models.baselines import BaselineRows
from research.spec import DataSpec, InputError, SplitSpec, StudySpec, TargetSpec, fingerprint
from research.tracking import schema
from research.tracking.runs import Input, Value
from research.tracking.store import Store
from research.windows.dataset import Prepared, prepare
from research.windows.splits import Evidence, EvidenceFloor, evidence_of, holdout, thin_evidence
from research.windows.targets import threshold_target


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

    @property
    def experiment(self) -> str:
        """MLflow experiment, `<data>-<task>`."""
        return f"{slug(self.spec.data.symbol)}-{self.spec.target.task}"

    @property
    def training_base_rate(self) -> float:
        """Share of positive training labels."""
        return float(self.prepared.labels_of("train").mean())

    def params(self) -> dict[str, Value]:
        """Parameters of the study, read back from the objects that the models are given."""
        target, split = self.prepared.target, self.prepared.split.spec
        assert split is not None
        return {
            "symbol": self.spec.data.symbol,
            "feature_set": self.prepared.matrix.spec.feature_set,
            "horizon": target.spec.horizon,
            "threshold": target.spec.threshold,
            "touch": target.spec.touch,
            "train_end": str(split.train_end),
            "validation_end": str(split.validation_end),
            "test_end": str(split.test_end),
            "embargo": split.embargo,
        }

    def tags(self) -> dict[str, str]:
        """Tags that say which bytes, features and labels made a run."""
        tags = {
            schema.STUDY_FINGERPRINT: fingerprint(self.spec),
            schema.SNAPSHOT_DIGEST: self.snapshot.digest,
            schema.FEATURE_DIGEST: self.prepared.matrix.digest,
            schema.TARGET_DIGEST: self.prepared.target.digest,
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
                digest=self.prepared.target.digest,
                source=str(self.snapshot.folder),
                context="target",
                profile=profile,
            ),
        ]

    def evidence_metrics(self) -> dict[str, float]:
        """Counts and base rates per split, for the parent run; of the test only how many days it has."""
        metrics: dict[str, float] = {}
        for one in self.evidence:
            metrics[f"{schema.SWEEP_PREFIX}{one.split}_n"] = one.n
            if one.split != "test":
                metrics[f"{schema.SWEEP_PREFIX}{one.split}_positives"] = one.positives
                metrics[f"{schema.SWEEP_PREFIX}{one.split}_base_rate"] = one.base_rate
                metrics[f"{schema.SWEEP_PREFIX}{one.split}_base_rate_se"] = one.base_rate_error
        return metrics


def prepare_study(options: StudyOptions, store: Store) -> Study:
    """Ingest, compute and split; refuse what is below the evidence floor unless told otherwise."""
    target_spec = TargetSpec(horizon=options.horizon, threshold=options.threshold, touch=options.touch)
    split_spec = SplitSpec(
        train_end=options.train_end, validation_end=options.validation_end, test_end=options.test_end, embargo=options.embargo
    )
    feature_set = feature_set_named(options.features)
    snapshot = ingest(options.data, store)
    bars = snapshot.of(options.symbol)
    matrix = build(feature_set, bars)
    target = threshold_target(bars, target_spec)
    split = holdout(target, split_spec, matrix.first_row, options.context)
    evidence = evidence_of(target, split)
    thin = thin_evidence(evidence, EvidenceFloor())
    if thin and not options.allow_thin_evidence:
        raise InputError(
            f"too little evidence at horizon {options.horizon}: {'; '.join(thin)}. Give more data, another THRESHOLD "
            "or HORIZON, or --allow-thin-evidence, which is tagged on every run."
        )
    prepared = prepare(matrix, target, split, options.context)
    # Baselines always see a25s, so that their losses are the same whatever the trials are given.
    stationary = prepared if feature_set.name == A25S.name else prepare(build(A25S, bars), target, split, options.context)
    spec = StudySpec(
        data=DataSpec(snapshot_digest=snapshot.digest, symbol=options.symbol),
        features=feature_set.spec,
        target=target_spec,
        split=split_spec,
    )
    volatility = ewma_volatility(bars["close"].to_numpy(np.float64))
    return Study(
        spec=spec,
        snapshot=snapshot,
        prepared=prepared,
        evidence=evidence,
        thin=thin,
        baseline_rows=_baseline_rows(stationary, volatility),
    )


def _baseline_rows(stationary: Prepared, volatility: np.ndarray) -> BaselineRows:
    values = stationary.standardised.astype(np.float64)
    train, validation = stationary.split.train, stationary.split.validation
    return BaselineRows(
        features_train=values[train],
        features_validation=values[validation],
        volatility_train=volatility[train],
        volatility_validation=volatility[validation],
        labels_train=stationary.labels_of("train"),
    )
