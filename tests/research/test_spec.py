from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, make_dataclass, replace
from datetime import date, datetime
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import InputError
from research.fingerprint import FINGERPRINT_LENGTH, added, canonical_json, fingerprint
from research.spec import (
    ArchitectureSpec,
    BaselineSpec,
    DataSpec,
    FeatureSpec,
    SplitSpec,
    TargetSpec,
    TaskSpec,
    TrainingSpec,
    TrialSpec,
)

ENDS = {"train_end": date(2011, 12, 31), "validation_end": date(2015, 6, 30), "test_end": date(2018, 12, 31)}
SHAPE = {"d_model": 64, "n_layers": 2, "n_heads": 8, "d_ff": 256}
FIT = {
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "dropout": 0.1,
    "warmup_steps": 50,
    "batch_size": 64,
    "epochs": 5,
    "patience": 3,
    "seed": 7,
}


def trial() -> TrialSpec:
    task = TaskSpec(
        data=DataSpec(snapshot_digest="41459dd9c01ef84b", symbols=("^GSPC", "^IXIC"), validate_on=("^GSPC", "^IXIC")),
        features=FeatureSpec(feature_set="a25s", version=1),
        target=TargetSpec(horizon=1, touch="close"),
        split=SplitSpec(**ENDS, train_windows=500),
    )
    return TrialSpec(task=task, architecture=ArchitectureSpec(**SHAPE), training=TrainingSpec(**FIT))


OTHER_VALUES = {
    "task.data.snapshot_digest": "0f9be483578660ec",
    "task.data.symbols": ("^GSPC", "^IXIC", "SPY"),
    "task.data.validate_on": ("^GSPC",),
    "task.features.feature_set": "a25",
    "task.features.version": 2,
    "task.features.index": "^IXIC",
    "task.features.volatility_index": "^VIX",
    "task.target.horizon": 3,
    "task.target.threshold": 0.02,
    "task.target.touch": "high",
    "task.target.kind": "downside",
    "task.target.shuffled": 0,
    "task.split.train_end": date(2010, 12, 31),
    "task.split.validation_end": date(2014, 6, 30),
    "task.split.test_end": date(2017, 12, 31),
    "task.split.embargo": 5,
    "task.split.train_windows": 1000,
    "task.split.windows_from": "everywhere",
    "architecture.d_model": 128,
    "architecture.n_layers": 3,
    "architecture.n_heads": 4,
    "architecture.d_ff": 128,
    "architecture.context_length": 61,
    "architecture.patch_length": 9,
    "architecture.patch_stride": 4,
    "architecture.n_features": 24,
    "architecture.window_norm": True,
    "architecture.n_symbols": 2,
    "architecture.family": "mixer",
    "training.learning_rate": 1.0000000000000002e-3,
    "training.weight_decay": 0.2,
    "training.dropout": 0.2,
    "training.warmup_steps": 51,
    "training.batch_size": 65,
    "training.epochs": 6,
    "training.patience": 4,
    "training.seed": 8,
    "training.base_width": 64,
    "training.optimizer": "adafactor",
    "training.gradient_clip": 2.0,
}


def leaves(spec: object, prefix: str = "") -> list[str]:
    found: list[str] = []
    for field in fields(spec):
        value, name = getattr(spec, field.name), prefix + field.name
        found += leaves(value, name + ".") if is_dataclass(value) else [name]
    return found


def changed(spec: object, path: str, value: object) -> object:
    head, _, rest = path.partition(".")
    return replace(spec, **{head: changed(getattr(spec, head), rest, value) if rest else value})


def test_equal_trials_have_equal_fingerprints():
    assert trial() == trial()
    assert trial().fingerprint == trial().fingerprint
    assert len(trial().fingerprint) == FINGERPRINT_LENGTH


@pytest.mark.parametrize("path", leaves(trial()))
def test_any_changed_field_changes_the_fingerprint(path: str):
    other = changed(trial(), path, OTHER_VALUES[path])
    assert other != trial()
    assert other.fingerprint != trial().fingerprint


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=50)
def test_the_seed_changes_the_fingerprint_and_not_the_configuration(seed: int):
    other = changed(trial(), "training.seed", seed)
    assert (other.fingerprint == trial().fingerprint) == (seed == FIT["seed"])
    assert other.config_fingerprint == trial().config_fingerprint


@pytest.mark.parametrize("path", [path for path in OTHER_VALUES if path != "training.seed"])
def test_every_other_field_changes_the_configuration(path: str):
    assert changed(trial(), path, OTHER_VALUES[path]).config_fingerprint != trial().config_fingerprint


@given(st.floats(min_value=1e-6, max_value=0.9), st.floats(min_value=1e-6, max_value=0.9))
@settings(deadline=None, max_examples=100)
def test_two_thresholds_share_a_fingerprint_only_when_they_are_the_same_number(one: float, two: float):
    same = fingerprint(TargetSpec(horizon=1, threshold=one)) == fingerprint(TargetSpec(horizon=1, threshold=two))
    assert same == (one == two)


@pytest.mark.parametrize(("name", "whole"), [("weight_decay", 0), ("gradient_clip", 1), ("learning_rate", 1)])
def test_a_number_typed_without_its_point_is_the_same_trial(name: str, whole: int):
    one, two = (TrainingSpec(**{**FIT, name: value}) for value in (whole, float(whole)))
    assert one == two
    assert fingerprint(one) == fingerprint(two)


@dataclass(frozen=True, kw_only=True)
class Older:
    """A spec as it was."""

    width: int = 1


def test_a_field_that_came_later_leaves_the_fingerprints_of_before():
    newer = make_dataclass("Older", [("width", int, 1), ("pooled", bool, added(False))], frozen=True, kw_only=True)
    assert fingerprint(newer()) == fingerprint(Older())
    assert fingerprint(newer(pooled=True)) != fingerprint(Older())


def test_specs_of_different_kinds_with_the_same_fields_differ():
    @dataclass(frozen=True)
    class One:
        x: int = 1

    @dataclass(frozen=True)
    class Two:
        x: int = 1

    assert fingerprint(One()) != fingerprint(Two())


def test_the_order_of_keys_does_not_matter():
    assert fingerprint({"a": 1, "b": [2, None]}) == fingerprint({"b": (2, None), "a": 1})


def test_fingerprints_that_are_stored_stay_valid():
    assert canonical_json(TargetSpec(horizon=3)) == (
        '{"horizon":3,"kind":"threshold","shuffled":null,"spec":"TargetSpec","threshold":0.01,"touch":"high"}'
    )
    assert fingerprint(TargetSpec(horizon=3)) == "52ab46d0edfaf716"


def test_a_baseline_is_told_apart_by_name_version_and_study():
    task = trial().task
    specs = [
        BaselineSpec(task=task, baseline="prior", version=1, context_length=60),
        BaselineSpec(task=task, baseline="logistic", version=1, context_length=60),
        BaselineSpec(task=task, baseline="prior", version=2, context_length=60),
        BaselineSpec(task=task, baseline="prior", version=1, context_length=120),
        BaselineSpec(task=replace(task, target=TargetSpec(horizon=3)), baseline="prior", version=1, context_length=60),
    ]
    assert len({spec.fingerprint for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        np.zeros(2),
        np.float64(1.0),
        np.int64(1),
        {1, 2},
        object(),
        b"bytes",
        datetime(2011, 12, 31),
        TargetSpec,
        {1: "key"},
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_without_a_stable_form_has_no_fingerprint(value: object):
    for nested in (value, [value], {"key": value}, FeatureSpec(feature_set="a25s", version=value)):
        with pytest.raises(TypeError):
            fingerprint(nested)


target = partial(TargetSpec, horizon=1)
split = partial(SplitSpec, **ENDS)
shape = partial(ArchitectureSpec, **SHAPE)
fit = partial(TrainingSpec, **FIT)


@pytest.mark.parametrize(
    ("make", "bad", "said"),
    [
        (target, {"horizon": 0}, "HORIZON=0"),
        (target, {"horizon": -1}, "HORIZON=-1"),
        (target, {"threshold": 0}, "THRESHOLD=0"),
        (target, {"threshold": -0.01}, "THRESHOLD=-0.01"),
        (target, {"threshold": 1.0}, "THRESHOLD=1.0"),
        (target, {"threshold": float("nan")}, "THRESHOLD=nan"),
        (target, {"touch": "low"}, "TOUCH=low"),
        (split, {"validation_end": date(2011, 12, 31)}, "SPLIT=2011-12-31, 2011-12-31, 2018-12-31"),
        (split, {"test_end": date(2014, 1, 1)}, "SPLIT=2011-12-31, 2015-06-30, 2014-01-01"),
        (split, {"embargo": -1}, "EMBARGO=-1"),
        (shape, {"d_model": 0}, "d_model=0"),
        (shape, {"n_layers": 0}, "n_layers=0"),
        (shape, {"n_heads": 0}, "n_heads=0"),
        (shape, {"n_heads": 7}, "n_heads=7: must divide d_model=64"),
        (shape, {"d_ff": 0}, "d_ff=0"),
        (shape, {"patch_length": 0}, "patch_length=0"),
        (shape, {"patch_stride": 0}, "patch_stride=0"),
        (shape, {"n_features": 0}, "n_features=0"),
        (shape, {"context_length": 9}, "CONTEXT=9: give at least one patch of 10 days"),
        (fit, {"learning_rate": 0.0}, "learning_rate=0.0"),
        (fit, {"weight_decay": -0.1}, "weight_decay=-0.1"),
        (fit, {"dropout": 1.0}, "dropout=1.0"),
        (fit, {"dropout": -0.1}, "dropout=-0.1"),
        (fit, {"warmup_steps": -1}, "warmup_steps=-1"),
        (fit, {"batch_size": 0}, "batch_size=0"),
        (fit, {"epochs": 0}, "EPOCHS=0"),
        (fit, {"patience": 0}, "PATIENCE=0"),
        (fit, {"gradient_clip": 0.0}, "gradient_clip=0.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_value_is_refused_by_field_and_value(make: partial[object], bad: dict[str, object], said: str):
    with pytest.raises(InputError) as refused:
        make(**bad)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("spec", "task"),
    [
        (TargetSpec(horizon=5), "threshold-1pct"),
        (TargetSpec(horizon=1, threshold=0.025), "threshold-2.5pct"),
        (TargetSpec(horizon=1, touch="close"), "threshold-1pct-close"),
    ],
)
def test_the_task_is_named_without_its_horizon(spec: TargetSpec, task: str):
    assert spec.name == task


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 60))
@settings(deadline=None, max_examples=100)
def test_patches_are_as_many_as_fit_whole_into_the_context(context: int, length: int, stride: int):
    if context < length:
        return
    starts_from_the_newest_day = range(context - length, -1, -stride)
    assert shape(context_length=context, patch_length=length, patch_stride=stride).n_patches == len(starts_from_the_newest_day)


def test_an_architecture_is_named_by_its_shape():
    assert shape(n_layers=48).label == "d64 L48 h8 ff4"
