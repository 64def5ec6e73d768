"""Specs as run parameters and as JSON, and both back to specs: the one codec of the platform.

The fields of the dataclasses decide what is written, so a new field needs no line here. A stored parameter has the name of its
field but for `PARAMETER`. None is stored as a word, an empty text as `none`, dates in ISO form, several names with commas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import date
from typing import Any, TypeVar, get_args, get_type_hints

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

Part = DataSpec | FeatureSpec | TargetSpec | SplitSpec
Spec = TypeVar("Spec", bound=DataSpec | FeatureSpec | TargetSpec | SplitSpec)

PARAMETER = {"symbols": "symbol", "kind": "task"}
"""Field -> parameter, if they differ."""
NO_PARAMETER = ("snapshot_digest", "version")
"""Fields that are stored as tags: digests stand for them."""
NONE_WORDS = {"shuffled": "no", "train_windows": "all"}
"""Word that stands for None, by field; `none` for any other."""
EMPTY = "none"


def encode(field: str, value: object) -> Value:
    """Return a field's value as a run parameter."""
    if value is None:
        return NONE_WORDS.get(field, EMPTY)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool | int | float):
        return value
    return str(value) or EMPTY


def part_params(part: Part) -> dict[str, Value]:
    """Return a part of a task as run parameters."""
    return {
        PARAMETER.get(field.name, field.name): encode(field.name, getattr(part, field.name))
        for field in fields(part)
        if field.name not in NO_PARAMETER
    }


def task_params_of_spec(spec: TrialSpec) -> dict[str, Value]:
    """Return the run parameters of the task that a spec declares."""
    task = spec.task
    return {
        name: value for part in (task.data, task.features, task.target, task.split) for name, value in part_params(part).items()
    }


def part_from_params(kind: type[Spec], params: Mapping[str, object]) -> Spec:
    """Return the part of a task that run parameters describe, as texts or as numbers."""
    types = get_type_hints(kind)
    values = {}
    for field in fields(kind):
        name = PARAMETER.get(field.name, field.name)
        if name in params:
            values[field.name] = _decoded(field.name, params[name], types[field.name])
    return kind(**values)


def _decoded(field: str, stored: object, annotation: Any) -> Any:
    options = get_args(annotation)
    if type(None) in options:
        if stored == NONE_WORDS.get(field, EMPTY):
            return None
        (annotation,) = (option for option in options if option is not type(None))
    if getattr(annotation, "__origin__", annotation) is tuple:
        return tuple(str(stored).split(","))
    if annotation is date:
        return date.fromisoformat(str(stored))
    if annotation in (int, float):
        return annotation(str(stored))
    return "" if annotation is str and stored == EMPTY else str(stored)


def task_spec_from_json(content: Mapping[str, Any]) -> TaskSpec:
    """Return the spec of a task from its canonical JSON."""
    return TaskSpec(
        data=_from_json(DataSpec, content["data"]),
        features=_from_json(FeatureSpec, content["features"]),
        target=_from_json(TargetSpec, content["target"]),
        split=_from_json(SplitSpec, content["split"]),
    )


def _from_json(kind: type[Spec], content: Mapping[str, Any]) -> Spec:
    types = get_type_hints(kind)
    values = {name: value for name, value in content.items() if name != "spec"}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
        elif types[name] is date:
            values[name] = date.fromisoformat(value)
    return kind(**values)


def trial_spec_from_run(run: RunRecord, task: TaskSpec) -> TrialSpec:
    """Return the spec that a run's parameters describe.

    Raises `InputError` if the parameters no longer have the run's fingerprint.
    """
    spec = TrialSpec(task=task, architecture=_from_run(ArchitectureSpec, run), training=_from_run(TrainingSpec, run))
    if spec.fingerprint != run.tags[schema.TRIAL_FINGERPRINT]:
        raise InputError(f"run {run.run_id} ({run.name}) no longer has the parameters of its fingerprint; delete it.")
    return spec


def _from_run(kind: type[Any], run: RunRecord) -> Any:
    # Parameters come back as the numbers they were; the spec checks their ranges again.
    names = [field.name for field in fields(kind) if field.name in run.params or not field.metadata.get(ADDED)]
    return kind(**{name: run.params[name] for name in names})
