"""Specs come back whole from the parameters and the JSON that runs hold, whatever their fields are."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.fingerprint import canonical_json
from research.spec import DataSpec, FeatureSpec, SplitSpec, TargetSpec, TaskSpec
from research.tracking.run_record import numbers
from research.tracking.spec_codec import NO_PARAMETER, part_from_params, part_params, task_spec_from_json

names = st.from_regex(r"[A-Z^][A-Z]{0,5}", fullmatch=True)


@st.composite
def task_specs(draw: st.DrawFn) -> TaskSpec:
    symbols = tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True)))
    kind = draw(st.sampled_from(["threshold", "downside", "end", "direction"]))
    train_end = draw(st.dates(date(1990, 1, 1), date(2015, 1, 1)))
    gaps = draw(st.tuples(st.integers(1, 2000), st.integers(1, 2000)))
    validation_end = train_end + timedelta(days=gaps[0])
    n_validated = draw(st.integers(1, len(symbols)))
    return TaskSpec(
        data=DataSpec(snapshot_digest="0123456789abcdef", symbols=symbols, validate_on=symbols[:n_validated]),
        features=FeatureSpec(
            feature_set=draw(st.sampled_from(["a25s", "a25", "s50"])),
            version=1,
            index=draw(st.sampled_from(["", "^GSPC"])),
            volatility_index=draw(st.sampled_from(["", "^VIX"])),
        ),
        target=TargetSpec(
            horizon=draw(st.integers(1, 60)),
            kind=kind,
            threshold=draw(st.floats(1e-6, 0.5)),
            touch=draw(st.sampled_from(["auto", "close"])),
            shuffled=draw(st.none() | st.integers(0, 2**31)),
        ),
        split=SplitSpec(
            train_end=train_end,
            validation_end=validation_end,
            test_end=validation_end + timedelta(days=gaps[1]),
            embargo=draw(st.integers(0, 30)),
            train_windows=draw(st.none() | st.integers(1, 10**6)),
            windows_from=draw(st.sampled_from(["recent", "everywhere"])),
        ),
    )


@given(spec=task_specs())
def test_a_task_comes_back_from_its_parameters_and_from_its_json(spec: TaskSpec) -> None:
    # MLflow makes text of every parameter, and readers make numbers of what looks like one.
    for part in (spec.data, spec.features, spec.target, spec.split):
        texts = {name: str(value) for name, value in part_params(part).items()}
        for params in (texts, numbers(texts)):
            stored = {name: getattr(part, name) for name in NO_PARAMETER if hasattr(part, name)}
            assert part_from_params(type(part), {**params, **stored}) == part
    assert task_spec_from_json(json.loads(canonical_json(spec))) == spec


def test_stored_names_and_words_stay() -> None:
    target = TargetSpec(horizon=3)
    assert part_params(target) == {"horizon": 3, "task": "threshold", "threshold": 0.01, "touch": "high", "shuffled": "no"}
    split = SplitSpec(train_end=date(2011, 12, 31), validation_end=date(2015, 6, 30), test_end=date(2018, 12, 31))
    assert part_params(split) == {
        "train_end": "2011-12-31",
        "validation_end": "2015-06-30",
        "test_end": "2018-12-31",
        "embargo": 0,
        "train_windows": "all",
        "windows_from": "recent",
    }
    assert part_params(FeatureSpec(feature_set="a25s", version=3)) == {
        "feature_set": "a25s",
        "index": "none",
        "volatility_index": "none",
    }
    data = DataSpec(snapshot_digest="0", symbols=("A", "B"), validate_on=("B",))
    assert part_params(data) == {"symbol": "A,B", "validate_on": "B"}


@dataclass(frozen=True, kw_only=True)
class WiderTarget(TargetSpec):
    """A target with one more field of each kind."""

    hold_until: date | None = None
    """A day."""
    rivals: tuple[str, ...] = ("X",)
    """Names."""
    weight: float = 1.0
    """A number."""


@pytest.mark.parametrize("hold_until", [None, date(2020, 1, 2)])
def test_a_new_field_needs_no_line_of_the_codec(hold_until: date | None) -> None:
    target = WiderTarget(horizon=1, hold_until=hold_until, rivals=("A", "B"), weight=0.5)
    params = {name: str(value) for name, value in part_params(target).items()}
    assert set(params) >= {field.name for field in fields(WiderTarget)} - {"kind"}
    assert part_from_params(WiderTarget, params) == target
