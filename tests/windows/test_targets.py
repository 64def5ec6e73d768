from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import random_bars
from hypothesis import given, settings
from hypothesis import strategies as st

from research.spec import InputError, TargetSpec
from research.windows.targets import threshold_target


def labels_by_loop(bars: pd.DataFrame, spec: TargetSpec) -> list[int]:
    close, watched = bars["close"].tolist(), bars[spec.touch].tolist()
    labels = []
    for day in range(len(bars)):
        ahead = watched[day + 1 : day + 1 + spec.horizon]
        complete = len(ahead) == spec.horizon
        labels.append(int(any(price >= close[day] * (1 + spec.threshold) for price in ahead)) if complete else -1)
    return labels


specs = st.builds(
    TargetSpec, horizon=st.integers(1, 30), threshold=st.floats(1e-4, 0.2), touch=st.sampled_from(["high", "close"])
)


@given(spec=specs, seed=st.integers(0, 100_000), days=st.integers(31, 120))
@settings(deadline=None, max_examples=150)
def test_labels_are_those_of_the_definition(spec: TargetSpec, seed: int, days: int):
    bars = random_bars(seed, days)
    target = threshold_target(bars, spec)
    assert target.labels.tolist() == labels_by_loop(bars, spec)
    assert target.n_labelled == days - spec.horizon
    assert (target.labels[: target.n_labelled] >= 0).all()
    assert (target.labels[target.n_labelled :] == -1).all()


@pytest.mark.parametrize("touch", ["high", "close"])
@pytest.mark.parametrize("horizon", [1, 3, 5])
def test_labels_of_real_data_come_from_raw_bars(sp500: pd.DataFrame, touch: str, horizon: int):
    spec = TargetSpec(horizon=horizon, touch=touch)
    assert threshold_target(sp500, spec).labels.tolist() == labels_by_loop(sp500, spec)


def test_a_price_exactly_at_the_threshold_touches():
    bars = pd.DataFrame(
        {"high": [100.0, 125.0, 124.0], "close": [100.0, 100.0, 100.0]}, index=pd.bdate_range("2001", periods=3)
    )
    assert threshold_target(bars, TargetSpec(horizon=1, threshold=0.25)).labels.tolist() == [1, 0, -1]


def test_the_day_of_entry_itself_does_not_count():
    bars = pd.DataFrame(
        {"high": [200.0, 100.0, 100.0], "close": [100.0, 100.0, 100.0]}, index=pd.bdate_range("2001", periods=3)
    )
    assert threshold_target(bars, TargetSpec(horizon=1)).labels.tolist() == [0, 0, -1]


def test_changing_only_the_horizon_changes_labels_digest_and_base_rate(sp500: pd.DataFrame):
    targets = [threshold_target(sp500, TargetSpec(horizon=horizon)) for horizon in (1, 3, 5)]
    rates = [float(target.labels[: target.n_labelled].mean()) for target in targets]
    assert rates == sorted(rates)
    assert rates[1] - rates[0] > 0.1
    assert rates[2] - rates[1] > 0.05
    assert len({target.digest for target in targets}) == 3
    assert [target.spec.horizon for target in targets] == [1, 3, 5]


@pytest.mark.parametrize("change", [{"horizon": 2}, {"threshold": 0.0100001}, {"touch": "close"}])
def test_the_digest_follows_the_question(sp500: pd.DataFrame, change: dict[str, object]):
    asked = TargetSpec(horizon=1)
    assert threshold_target(sp500, replace(asked, **change)).digest != threshold_target(sp500, asked).digest


def test_the_digest_follows_days_and_labels_and_nothing_else(sp500: pd.DataFrame):
    spec = TargetSpec(horizon=1)
    digest = threshold_target(sp500, spec).digest
    moved = sp500.set_index(sp500.index[:-1].append(sp500.index[-1:] + pd.Timedelta(days=1)))
    crash = sp500.assign(close=sp500["close"].where(sp500.index != "2006-01-10", 1.0))
    assert threshold_target(moved, spec).digest != digest
    assert threshold_target(crash, spec).digest != digest
    assert threshold_target(sp500.assign(adj_close=1.0, volume=0.0, open=1.0), spec).digest == digest


@given(seed=st.integers(0, 100_000), horizon=st.integers(1, 20), threshold=st.floats(1e-3, 0.1))
@settings(deadline=None, max_examples=80)
def test_a_close_that_touches_is_also_a_high_that_touches(seed: int, horizon: int, threshold: float):
    bars = random_bars(seed, 100)
    high, close = (
        threshold_target(bars, TargetSpec(horizon=horizon, threshold=threshold, touch=touch)).labels
        for touch in ("high", "close")
    )
    assert (high >= close).all()


@given(seed=st.integers(0, 100_000), horizon=st.integers(1, 20))
@settings(deadline=None, max_examples=80)
def test_a_longer_horizon_or_a_lower_threshold_never_takes_a_touch_back(seed: int, horizon: int):
    bars = random_bars(seed, 100)
    asked = TargetSpec(horizon=horizon, threshold=0.02)
    labels = threshold_target(bars, asked).labels
    longer = threshold_target(bars, replace(asked, horizon=horizon + 1)).labels
    easier = threshold_target(bars, replace(asked, threshold=0.01)).labels
    assert (longer >= labels)[longer >= 0].all()
    assert (easier >= labels).all()


@given(seed=st.integers(0, 100_000), horizon=st.integers(1, 20), row=st.integers(0, 79))
@settings(deadline=None, max_examples=80)
def test_a_label_depends_on_no_bar_after_its_end(seed: int, horizon: int, row: int):
    bars = random_bars(seed, 100)
    target = threshold_target(bars, TargetSpec(horizon=horizon))
    other = bars.copy()
    end = other.index.get_loc(target.label_ends(np.array([row]))[0])
    other.iloc[end + 1 :] *= 10
    assert threshold_target(other, target.spec).labels[row] == target.labels[row]
    other.iloc[end] *= 10
    assert threshold_target(other, target.spec).labels[row] == 1


@pytest.mark.parametrize("horizon", [10, 11, 500])
def test_a_horizon_longer_than_the_data_is_refused(horizon: int):
    with pytest.raises(InputError, match=f"HORIZON={horizon}: the data have only 10 sessions"):
        threshold_target(random_bars(0, 10), TargetSpec(horizon=horizon))


def test_the_longest_possible_horizon_labels_one_day():
    target = threshold_target(random_bars(0, 10), TargetSpec(horizon=9))
    assert target.n_labelled == 1
