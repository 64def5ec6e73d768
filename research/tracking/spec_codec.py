"""Specs as run parameters, and run parameters as specs."""

from __future__ import annotations

from dataclasses import fields
from datetime import date
from typing import Any

from research.errors import InputError
from research.fingerprint import ADDED
from research.spec import (
    ArchitectureSpec,
    DataSpec,
    FeatureSpec,
    SplitSpec,
    TargetSpec,
    TaskSpec,
    TrainingSpec,
    TrialSpec,
)
from research.tracking import schema
from research.tracking.query import RunRecord
from research.tracking.run_writer import Value


def task_params_of_spec(spec: TrialSpec) -> dict[str, Value]:
    """Return the run parameters of the task that a spec declares."""
    s = spec.task
    return {
        "symbol": s.data.title,
        "validate_on": ",".join(s.data.validate_on),
        "feature_set": s.features.feature_set,
        "index": s.features.index or "none",
        "volatility_index": s.features.volatility_index or "none",
        "horizon": s.target.horizon,
        "task": s.target.kind,
        "threshold": s.target.threshold,
        "touch": s.target.touch,
        "shuffled": "no" if s.target.shuffled is None else s.target.shuffled,
        "train_end": str(s.split.train_end),
        "validation_end": str(s.split.validation_end),
        "test_end": str(s.split.test_end),
        "embargo": s.split.embargo,
        "windows_from": s.split.windows_from,
        "train_windows": s.split.train_windows or "all",
    }


def trial_spec_from_run(run: RunRecord, task: TaskSpec) -> TrialSpec:
    """The spec that a run's parameters describe; `InputError` if they are no longer those of its fingerprint."""
    spec = TrialSpec(
        task=task,
        architecture=ArchitectureSpec(**_of(ArchitectureSpec, run)),
        training=TrainingSpec(**_of(TrainingSpec, run)),
    )
    if spec.fingerprint != run.tags[schema.TRIAL_FINGERPRINT]:
        raise InputError(f"run {run.run_id} ({run.name}) no longer has the parameters of its fingerprint; delete it.")
    return spec


def _of(kind: type[ArchitectureSpec | TrainingSpec], run: RunRecord) -> dict[str, Any]:
    # Parameters come back as the numbers they were; the spec checks their ranges again.
    return {one.name: run.params[one.name] for one in fields(kind) if one.name in run.params or not one.metadata.get(ADDED)}


def task_spec_from_json(told: dict[str, Any]) -> TaskSpec:
    """The spec that its canonical JSON describes."""
    data, features, target, split = (
        {name: value for name, value in told[part].items() if name != "spec"}
        for part in ("data", "features", "target", "split")
    )
    data |= {name: tuple(data[name]) for name in ("symbols", "validate_on")}
    split |= {name: date.fromisoformat(split[name]) for name in ("train_end", "validation_end", "test_end")}
    return TaskSpec(
        data=DataSpec(**data), features=FeatureSpec(**features), target=TargetSpec(**target), split=SplitSpec(**split)
    )
