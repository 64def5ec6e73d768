from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import InputError
from research.fingerprint import fingerprint
from research.spec import QUESTIONS, TargetKind, TargetSpec
from research.task.targets import label
from tests.conftest import random_bars

KINDS = list(get_args(TargetKind))
THRESHOLDS = [0.005, 0.01, 0.02, 0.03, 0.05]


def answer_by_loop(bars: pd.DataFrame, spec: TargetSpec, day: int) -> int:
    entry, ahead = float(bars["close"].iloc[day]), bars.iloc[day + 1 : day + 1 + spec.horizon]
    up, down = entry * (1 + spec.threshold), entry * (1 - spec.threshold)
    if len(ahead) < spec.horizon:
        return -1
    if spec.kind == "threshold":
        return int(any(price >= up for price in ahead[spec.touch]))
    if spec.kind == "downside":
        return int(any(price <= down for price in ahead[spec.touch]))
    last = float(ahead["close"].iloc[-1])
    return int(last >= up if spec.kind == "end" else last > entry)


def labels_by_loop(bars: pd.DataFrame, spec: TargetSpec) -> list[int]:
    return [answer_by_loop(bars, spec, day) for day in range(len(bars))]


def known(bars: pd.DataFrame, spec: TargetSpec) -> list[int]:
    target = label(bars, spec)
    return target.labels[: target.n_labelled].tolist()


def three_days(closes: list[float], **others: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"close": closes, **others}, index=pd.bdate_range("2001", periods=len(closes)))


questions = st.sampled_from([(kind, touch) for kind in KINDS for touch in QUESTIONS[kind].touches])
specs = st.builds(
    lambda question, horizon, threshold: TargetSpec(horizon=horizon, kind=question[0], touch=question[1], threshold=threshold),
    questions,
    st.integers(1, 30),
    st.floats(1e-4, 0.2),
)
seeds = st.integers(0, 100_000)


@given(spec=specs, seed=seeds, days=st.integers(31, 70))
@settings(deadline=None, max_examples=120)
def test_labels_are_those_of_the_definition(spec: TargetSpec, seed: int, days: int):
    bars = random_bars(seed, days)
    target = label(bars, spec)
    assert target.labels.tolist() == labels_by_loop(bars, spec)
    assert target.n_labelled == days - spec.horizon
    assert (target.labels[: target.n_labelled] >= 0).all()
    assert (target.labels[target.n_labelled :] == -1).all()


@pytest.mark.parametrize("touch", ["high", "close"])
@pytest.mark.parametrize("horizon", [1, 3, 5])
def test_labels_of_the_default_question_are_read_off_raw_bars(sp500: pd.DataFrame, touch: str, horizon: int):
    close, watched = sp500["close"].tolist(), sp500[touch].tolist()
    ahead = [watched[day + 1 : day + 1 + horizon] for day in range(len(close) - horizon)]
    assert known(sp500, TargetSpec(horizon=horizon, touch=touch)) == [
        int(max(prices) >= entry * 1.01) for entry, prices in zip(close, ahead)
    ]


def test_a_price_exactly_at_the_threshold_touches():
    bars = three_days([100.0, 100.0, 125.0, 93.75], high=[100.0, 125.0, 124.0, 130.0], low=[90.0, 75.0, 76.0, 90.0])
    assert known(bars, TargetSpec(horizon=1, threshold=0.25)) == [1, 0, 0]
    assert known(bars, TargetSpec(horizon=1, threshold=0.25, kind="downside")) == [1, 0, 1]
    assert known(bars, TargetSpec(horizon=1, threshold=0.25, kind="downside", touch="close")) == [0, 0, 1]
    assert known(bars, TargetSpec(horizon=1, threshold=0.25, kind="end")) == [0, 1, 0]


def test_an_unchanged_close_is_no_rise():
    assert known(three_days([100.0, 100.0, 101.0, 100.0]), TargetSpec(horizon=1, kind="direction")) == [0, 1, 0]


@pytest.mark.parametrize("kind", ["threshold", "downside"])
def test_the_day_of_entry_itself_does_not_count(kind: TargetKind):
    bars = three_days([100.0] * 3, high=[200.0, 100.0, 100.0], low=[50.0, 100.0, 100.0])
    assert known(bars, TargetSpec(horizon=1, kind=kind)) == [0, 0]


@pytest.mark.parametrize(("kind", "expected"), [("end", [0, 1]), ("direction", [0, 1])])
def test_only_the_last_close_of_the_interval_counts(kind: TargetKind, expected: list[int]):
    assert known(three_days([100.0, 110.0, 99.0, 120.0]), TargetSpec(horizon=2, kind=kind)) == expected


def test_changing_only_the_horizon_changes_labels_digest_and_base_rate(sp500: pd.DataFrame):
    targets = [label(sp500, TargetSpec(horizon=horizon)) for horizon in (1, 3, 5)]
    rates = [float(target.labels[: target.n_labelled].mean()) for target in targets]
    assert rates == sorted(rates)
    assert rates[1] - rates[0] > 0.1
    assert rates[2] - rates[1] > 0.05
    assert len({target.digest for target in targets}) == 3
    assert [target.spec.horizon for target in targets] == [1, 3, 5]


@pytest.mark.parametrize(
    "other",
    [
        TargetSpec(horizon=2),
        TargetSpec(horizon=1, threshold=0.0100001),
        TargetSpec(horizon=1, touch="close"),
        TargetSpec(horizon=1, kind="downside"),
        TargetSpec(horizon=1, kind="end"),
        TargetSpec(horizon=1, kind="direction"),
        TargetSpec(horizon=1, shuffled=0),
    ],
    ids=lambda spec: f"{spec.name}-h{spec.horizon}",
)
def test_the_digest_follows_the_question(sp500: pd.DataFrame, other: TargetSpec):
    assert label(sp500, other).digest != label(sp500, TargetSpec(horizon=1)).digest


def test_the_digest_follows_days_and_labels_and_nothing_else(sp500: pd.DataFrame):
    spec = TargetSpec(horizon=1)
    digest = label(sp500, spec).digest
    moved = sp500.set_index(sp500.index[:-1].append(sp500.index[-1:] + pd.Timedelta(days=1)))
    crash = sp500.assign(close=sp500["close"].where(sp500.index != "2006-01-10", 1.0))
    assert label(moved, spec).digest != digest
    assert label(crash, spec).digest != digest
    assert label(sp500.assign(adj_close=1.0, volume=0.0, open=1.0), spec).digest == digest


@given(seed=seeds, horizon=st.integers(1, 20), threshold=st.floats(1e-3, 0.1))
@settings(deadline=None, max_examples=60)
def test_a_close_that_touches_is_also_a_high_or_a_low_that_touches(seed: int, horizon: int, threshold: float):
    bars = random_bars(seed, 100)
    asked = TargetSpec(horizon=horizon, threshold=threshold)
    high, end = label(bars, asked).labels, label(bars, replace(asked, kind="end", touch="auto")).labels
    close = label(bars, replace(asked, touch="close")).labels
    low, low_close = (label(bars, replace(asked, kind="downside", touch=touch)).labels for touch in ("low", "close"))
    assert (high >= close).all()
    assert (close >= end).all()
    assert (low >= low_close).all()


@given(seed=seeds, horizon=st.integers(1, 20), kind=st.sampled_from(["threshold", "downside"]))
@settings(deadline=None, max_examples=60)
def test_a_longer_horizon_never_takes_a_touch_back(seed: int, horizon: int, kind: TargetKind):
    bars = random_bars(seed, 100)
    shorter, longer = (label(bars, TargetSpec(horizon=ahead, kind=kind)).labels for ahead in (horizon, horizon + 1))
    assert (longer >= shorter)[longer >= 0].all()


@pytest.mark.parametrize("kind", ["threshold", "downside", "end"])
@pytest.mark.parametrize("horizon", [1, 5])
def test_a_higher_threshold_is_reached_on_a_subset_of_the_days(sp500: pd.DataFrame, kind: TargetKind, horizon: int):
    labels = [label(sp500, TargetSpec(horizon=horizon, kind=kind, threshold=threshold)).labels for threshold in THRESHOLDS]
    assert all((easy >= hard).all() for easy, hard in pairwise(labels))
    totals = [int((one == 1).sum()) for one in labels]
    assert totals == sorted(set(totals), reverse=True)


@given(seed=seeds, horizon=st.integers(1, 20), threshold=st.floats(1e-3, 0.2))
@settings(deadline=None, max_examples=60)
def test_the_downside_of_a_price_is_the_threshold_of_its_reciprocal(seed: int, horizon: int, threshold: float):
    # 1/low >= (1/close) / (1 - threshold): the same question in real numbers, in floats where no price lies on the border.
    bars = random_bars(seed, 100)
    mirrored = pd.DataFrame({"high": 1 / bars["low"], "close": 1 / bars["close"]})
    twin = TargetSpec(horizon=horizon, threshold=threshold / (1 - threshold))
    assert known(bars, TargetSpec(horizon=horizon, kind="downside", threshold=threshold)) == known(mirrored, twin)


@given(seed=seeds, horizon=st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_the_direction_of_the_reciprocal_is_the_complement_but_for_equal_closes(seed: int, horizon: int):
    bars = random_bars(seed, 100).round({"close": 0})
    spec = TargetSpec(horizon=horizon, kind="direction")
    equal = bars["close"].to_numpy()[:-horizon] == bars["close"].to_numpy()[horizon:]
    up, down = np.array(known(bars, spec)), np.array(known(1 / bars, spec))
    assert (up + down == np.where(equal, 0, 1)).all()


@given(spec=specs, seed=seeds, row=st.integers(0, 69))
@settings(deadline=None, max_examples=120)
def test_a_label_depends_on_no_bar_outside_its_interval(spec: TargetSpec, seed: int, row: int):
    bars = random_bars(seed, 100)
    target, other = label(bars, spec), bars.copy()
    end = other.index.get_loc(target.label_ends(np.array([row]))[0])
    other.iloc[:row] *= 10
    other.iloc[end + 1 :] /= 10
    assert label(other, spec).labels[row] == target.labels[row]
    other.iloc[end] *= 1e-6 if spec.kind == "downside" else 1e6
    assert label(other, spec).labels[row] == answer_by_loop(other, spec, row)


@given(spec=specs, seed=seeds, shuffle=st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_shuffled_labels_keep_their_days_and_base_rate(spec: TargetSpec, seed: int, shuffle: int):
    bars = random_bars(seed, 100)
    true, shuffled = label(bars, spec), label(bars, replace(spec, shuffled=shuffle))
    assert sorted(shuffled.labels) == sorted(true.labels)
    assert ((shuffled.labels == -1) == (true.labels == -1)).all()
    assert label(bars, replace(spec, shuffled=shuffle)).digest == shuffled.digest != true.digest


def test_shuffled_labels_have_lost_their_relation_to_the_day_before(sp500: pd.DataFrame):
    spread = (sp500["high"] / sp500["low"] - 1).to_numpy()[:-1]
    true, one, two = (np.array(known(sp500, TargetSpec(horizon=1, shuffled=seed))) for seed in (None, 0, 1))
    assert np.corrcoef(spread, true)[0, 1] > 0.2
    assert abs(np.corrcoef(spread, one)[0, 1]) < 3 / math.sqrt(len(true))
    assert abs(np.corrcoef(true, one)[0, 1]) < 3 / math.sqrt(len(true))
    assert (one != two).any()


@pytest.mark.parametrize(
    ("spec", "task", "question"),
    [
        (TargetSpec(horizon=1), "threshold-1pct", "does the high touch +1% within 1 session?"),
        (TargetSpec(horizon=3, touch="close"), "threshold-1pct-close", "does the close touch +1% within 3 sessions?"),
        (TargetSpec(horizon=1, kind="downside"), "downside-1pct", "does the low touch -1% within 1 session?"),
        (
            TargetSpec(horizon=5, kind="downside", threshold=0.025, touch="close"),
            "downside-2.5pct-close",
            "does the close touch -2.5% within 5 sessions?",
        ),
        (TargetSpec(horizon=3, kind="end"), "end-1pct", "is the close up 1% or more after 3 sessions?"),
        (TargetSpec(horizon=1, kind="direction"), "direction", "is the close higher after 1 session?"),
        (
            TargetSpec(horizon=1, kind="direction", shuffled=7),
            "direction-shuffled",
            "is the close higher after 1 session? (shuffled labels)",
        ),
        (
            TargetSpec(horizon=1, touch="close", shuffled=0),
            "threshold-1pct-close-shuffled",
            "does the close touch +1% within 1 session? (shuffled labels)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_task_says_what_is_asked(spec: TargetSpec, task: str, question: str):
    assert (spec.name, spec.question) == (task, question)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"kind": "threshold"}, {"touch": "high"}),
        ({"kind": "downside"}, {"kind": "downside", "touch": "low"}),
        ({"kind": "end"}, {"kind": "end", "touch": "close"}),
        ({"kind": "direction"}, {"kind": "direction", "touch": "close", "threshold": 0.05}),
    ],
)
def test_equal_questions_are_equal_specs(one: dict[str, object], other: dict[str, object]):
    first, second = TargetSpec(horizon=1, **one), TargetSpec(horizon=1, **other)
    assert first == second == replace(first, horizon=1)
    assert fingerprint(first) == fingerprint(second)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"kind": "upside"}, f"TASK=upside: give {', '.join(QUESTIONS)}."),
        ({"touch": "low"}, "TOUCH=low: give high or close, what threshold watches."),
        ({"kind": "downside", "touch": "high"}, "TOUCH=high: give low or close, what downside watches."),
        ({"kind": "end", "touch": "high"}, "TOUCH=high: give close, what end watches."),
        ({"kind": "direction", "touch": "high"}, "TOUCH=high: give close, what direction watches."),
        ({"kind": "end", "threshold": 0.0}, "THRESHOLD=0.0: give a fraction between 0 and 1, 0.01 is 1%."),
        ({"shuffled": -1}, "SHUFFLED=-1: give a seed, 0 or more."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_question_that_makes_no_sense_is_refused(wrong: dict[str, object], sentence: str):
    with pytest.raises(InputError) as refused:
        TargetSpec(horizon=1, **wrong)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("horizon", [10, 11, 500])
def test_a_horizon_longer_than_the_data_is_refused(horizon: int, kind: TargetKind):
    with pytest.raises(InputError, match=f"HORIZON={horizon}: the data have only 10 sessions"):
        label(random_bars(0, 10), TargetSpec(horizon=horizon, kind=kind))


def test_the_longest_possible_horizon_labels_one_day():
    assert label(random_bars(0, 10), TargetSpec(horizon=9)).n_labelled == 1
