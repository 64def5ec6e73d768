from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from research.errors import InputError
from research.spec import SplitSpec, TargetSpec
from research.task.splits import holdout, walk_forward
from research.task.targets import Target, label
from tests.conftest import SPLIT, random_bars

FIRST_ROW = 199
DAYS = 400

horizons = st.integers(1, 25)
embargoes = st.integers(0, 15)
borders = st.lists(st.integers(60, DAYS + 20), min_size=3, max_size=3, unique=True).map(sorted)


def target_of(horizon: int, seed: int = 0) -> Target:
    return label(random_bars(seed, DAYS), TargetSpec(horizon=horizon))


def spec_at(target: Target, ends: list[int], embargo: int = 0) -> SplitSpec:
    """Splits that end on the day before the sessions of these rows."""
    calendar = target.days.append(pd.bdate_range(target.days[-1], periods=30)[1:])
    train, validation, test = (calendar[row].date() - timedelta(days=1) for row in ends)
    return SplitSpec(train_end=train, validation_end=validation, test_end=test, embargo=embargo)


def touched_rows(rows: np.ndarray, horizon: int) -> set[int]:
    """All rows that the labels of these rows depend on."""
    return {row + ahead for row in rows.tolist() for ahead in range(horizon + 1)}


@pytest.fixture(scope="module")
def real_target(sp500: pd.DataFrame) -> Target:
    return label(sp500, TargetSpec(horizon=5))


@given(horizon=horizons, embargo=embargoes, ends=borders)
@settings(deadline=None, max_examples=150)
def test_a_training_label_never_meets_validation_or_test(horizon: int, embargo: int, ends: list[int]):
    assume(ends[0] - horizon - embargo > 30)
    target = target_of(horizon)
    split = holdout(target, spec_at(target, ends, embargo), first_row=21, context_length=10)
    training = touched_rows(split.train, horizon)
    assert not training & touched_rows(split.validation, horizon)
    assert not training & touched_rows(split.test, horizon)
    assert not touched_rows(split.validation, horizon) & touched_rows(split.test, horizon)
    assert max(training) + embargo < ends[0]


@given(horizon=horizons, embargo=embargoes, ends=borders)
@settings(deadline=None, max_examples=150)
def test_the_purge_takes_no_day_more_than_it_must(horizon: int, embargo: int, ends: list[int]):
    assume(ends[0] - horizon - embargo > 30)
    target = target_of(horizon)
    split = holdout(target, spec_at(target, ends, embargo), first_row=21, context_length=10)

    def until(end: int, kept_away: int) -> int:
        return min(end, DAYS) - horizon - kept_away

    assert split.train.tolist() == list(range(30, until(ends[0], embargo)))
    assert split.validation.tolist() == list(range(ends[0], until(ends[1], embargo)))
    assert split.test.tolist() == list(range(ends[1], until(ends[2], 0)))


@given(horizon=horizons, ends=borders, short=st.integers(1, 20), long=st.integers(1, 20))
@settings(deadline=None, max_examples=100)
def test_the_predicted_days_do_not_depend_on_the_context(horizon: int, ends: list[int], short: int, long: int):
    target = target_of(horizon)
    spec = spec_at(target, ends)
    one, other = (holdout(target, spec, first_row=10, context_length=context) for context in (short, long))
    np.testing.assert_array_equal(one.validation, other.validation)
    np.testing.assert_array_equal(one.test, other.test)
    assert one.train[-1] == other.train[-1]
    assert other.train[0] - one.train[0] == long - short


@given(horizon=horizons, embargo=embargoes, ends=borders)
@settings(deadline=None, max_examples=100)
def test_splits_are_ordered_disjoint_and_labelled(horizon: int, embargo: int, ends: list[int]):
    assume(ends[0] - horizon - embargo > 30)
    target = target_of(horizon)
    spec = spec_at(target, ends, embargo)
    split = holdout(target, spec, first_row=21, context_length=10)
    rows = np.concatenate([split.train, split.validation, split.test])
    assert (np.diff(rows) > 0).all()
    assert (target.labels[rows] >= 0).all()
    for part, after, end in (
        (split.train, date.min, spec.train_end),
        (split.validation, spec.train_end, spec.validation_end),
        (split.test, spec.validation_end, spec.test_end),
    ):
        days = [day.date() for day in target.days[part]]
        assert all(after < day <= end for day in days)


def test_the_default_split_of_the_bundled_data_has_877_validation_days(sp500: pd.DataFrame):
    target = label(sp500, TargetSpec(horizon=1))
    split = holdout(target, SPLIT, FIRST_ROW, 60)
    assert len(split.validation) == 877
    assert split.train[0] == FIRST_ROW + 59
    first_and_last = [str(target.days[row].date()) for part in (split.validation, split.test) for row in (part[0], part[-1])]
    assert first_and_last == ["2012-01-03", "2015-06-29", "2015-07-01", "2018-12-28"]


def test_a_context_longer_than_the_history_is_refused_by_name(real_target: Target):
    with pytest.raises(InputError) as refused:
        holdout(real_target, SPLIT, FIRST_ROW, 4000)
    assert str(refused.value).startswith("CONTEXT=4000: no training day has 4000 days of complete features")


def test_the_longest_possible_context_leaves_one_training_day(real_target: Target):
    longest = holdout(real_target, SPLIT, FIRST_ROW, 1).train
    assert len(holdout(real_target, SPLIT, FIRST_ROW, len(longest)).train) == 1
    with pytest.raises(InputError, match=f"CONTEXT={len(longest) + 1}"):
        holdout(real_target, SPLIT, FIRST_ROW, len(longest) + 1)


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_walking_forward_predicts_every_labelled_day_once(sp500: pd.DataFrame, horizon: int):
    target = label(sp500, TargetSpec(horizon=horizon))
    splits = list(walk_forward(target, 2005, 2018, FIRST_ROW, 60))
    assert len(splits) == 14
    predicted = np.concatenate([split.validation for split in splits])
    assert predicted.tolist() == list(range(target.days.get_loc("2005-01-03"), target.n_labelled))
    for year, split in enumerate(splits, start=2005):
        assert set(target.days[split.validation].year) == {year}
        assert len(split.test) == 0


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_walking_forward_trains_on_all_that_was_known_before_the_year(sp500: pd.DataFrame, horizon: int):
    target = label(sp500, TargetSpec(horizon=horizon))
    for split in walk_forward(target, 2005, 2018, FIRST_ROW, 60):
        assert split.train.tolist() == list(range(FIRST_ROW + 59, split.validation[0] - horizon))
        assert touched_rows(split.train, horizon).isdisjoint(split.validation.tolist())


@pytest.mark.parametrize(("first", "last"), [(1999, 2005), (2018, 2019)])
def test_walking_forward_outside_of_the_data_is_refused(real_target: Target, first: int, last: int):
    with pytest.raises(InputError, match=f"YEARS={first}-{last}: .* give years inside the data"):
        list(walk_forward(real_target, first, last, FIRST_ROW, 60))


def test_walking_backward_is_refused(real_target: Target):
    with pytest.raises(InputError, match="YEARS=2018-2005: give the earlier year first"):
        list(walk_forward(real_target, 2018, 2005, FIRST_ROW, 60))
