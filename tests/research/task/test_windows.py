from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from research.task.windows import WindowDataset, WindowedData, merge_train_validation, stack_windows, walk_forward_fold
from tests.conftest import prepare_study

CPU = torch.device("cpu")
ROWS, FEATURES = 50, 3


def numbered(context_length: int) -> WindowDataset:
    """A data set whose value at row r, feature f is 10 r + f and whose label at row r is r mod 2."""
    values = (10 * np.arange(ROWS)[:, None] + np.arange(FEATURES)).astype(np.float32)
    return WindowDataset(values, (np.arange(ROWS) % 2).astype(np.int8), context_length, CPU)


def test_a_window_ends_on_its_own_day():
    x_BTF, y_B = numbered(context_length=4).gather(torch.tensor([3, 10, 49]))
    assert x_BTF[:, :, 0].tolist() == [[0, 10, 20, 30], [70, 80, 90, 100], [460, 470, 480, 490]]
    assert x_BTF[1, -1].tolist() == [100, 101, 102]
    assert y_B.tolist() == [1, 0, 1]


def with_values(prepared: WindowedData, values: np.ndarray) -> WindowedData:
    """The same study with other features."""
    part = prepared.parts[0]
    return stack_windows([replace(part, matrix=replace(part.matrix, values=values))], prepared.context_length)


@given(context_length=st.integers(1, ROWS), data=st.data())
@settings(deadline=None, max_examples=80)
def test_windows_are_the_slices_of_a_slow_loop(context_length: int, data: st.DataObject):
    rows = data.draw(st.lists(st.integers(context_length - 1, ROWS - 1), min_size=1, max_size=20))
    dataset = numbered(context_length)
    x_BTF, y_B = dataset.gather(torch.tensor(rows))
    slices = torch.stack([dataset.values_RF[row - context_length + 1 : row + 1] for row in rows])
    assert torch.equal(x_BTF, slices)
    assert torch.equal(y_B, dataset.labels_R[torch.tensor(rows)])


def test_a_gathered_batch_is_a_copy_that_may_be_changed():
    dataset = numbered(context_length=4)
    before = dataset.values_RF.clone()
    dataset.gather(torch.tensor([10, 10]))[0].zero_()
    assert torch.equal(dataset.values_RF, before)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_real_windows_hold_the_standardised_days_up_to_the_predicted_one(prepared: WindowedData, split: str):
    dataset, rows = prepared.dataset(CPU), getattr(prepared.split, split)
    x_BTF, y_B = dataset.gather(dataset.rows(rows))
    standardiser, values = prepared.standardiser, prepared.values
    assert x_BTF.shape == (len(rows), 60, 25)
    assert torch.isfinite(x_BTF).all()
    for place in (0, len(rows) // 2, -1):
        window = values[rows[place] - 59 : rows[place] + 1]
        np.testing.assert_allclose(x_BTF[place], (window - standardiser.mean) / standardiser.scale, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(y_B.numpy(), prepared.labels_of(split))
    np.testing.assert_array_equal(y_B.numpy(), prepared.labels[rows])


@pytest.mark.parametrize("context_length", [1, 20, 250])
def test_the_first_training_window_starts_on_the_first_complete_day(sp500: pd.DataFrame, context_length: int):
    prepared = prepare_study(sp500, horizon=3, context_length=context_length)
    assert prepared.split.train[0] - context_length + 1 == prepared.parts[0].matrix.first_row == 199
    dataset = prepared.dataset(CPU)
    assert dataset.context_length == context_length
    oldest = dataset.gather(dataset.rows(prepared.split.train[:1]))[0][0, 0]
    np.testing.assert_array_equal(oldest, prepared.standardised[199])
    assert (prepared.standardised[:199] == 0).all()


def test_the_standardiser_sees_no_row_after_the_last_training_day(prepared: WindowedData):
    values = prepared.values.copy()
    values[prepared.split.train[-1] + 1 :] = 1e6
    other = with_values(prepared, values)
    np.testing.assert_array_equal(other.standardiser.mean, prepared.standardiser.mean)
    np.testing.assert_array_equal(other.standardiser.scale, prepared.standardiser.scale)


def test_the_standardiser_sees_every_row_of_the_training_windows(prepared: WindowedData):
    first, last = prepared.parts[0].matrix.first_row, prepared.split.train[-1]
    for row in (first, last):
        values = prepared.values.copy()
        values[row] += 1.0
        other = with_values(prepared, values)
        assert (other.standardiser.mean > prepared.standardiser.mean).all()
    np.testing.assert_allclose(prepared.standardised[first : last + 1].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(prepared.standardised[first : last + 1].std(axis=0), 1, atol=1e-4)


def test_a_study_is_the_same_when_the_future_is_not_there_yet(sp500: pd.DataFrame, prepared: WindowedData):
    days = int(prepared.split.validation[-1]) + 2
    known = prepare_study(sp500[:days], horizon=1)
    np.testing.assert_array_equal(known.standardised, prepared.standardised[:days])
    np.testing.assert_array_equal(known.split.train, prepared.split.train)
    np.testing.assert_array_equal(known.labels_of("validation"), prepared.labels_of("validation"))


@pytest.mark.parametrize("horizon", [1, 5])
def test_joined_rows_end_before_the_test_and_its_days_scale_nothing(sp500: pd.DataFrame, horizon: int) -> None:
    before = prepare_study(sp500, horizon)
    split = before.split
    found = merge_train_validation(before)
    assert np.array_equal(found.split.train, np.concatenate([split.train, split.validation]))
    assert found.label_ends(found.split.train).max() < found.days[split.test].min()
    assert len(found.split.validation) == 0
    assert np.array_equal(found.split.test, split.test)
    assert not np.array_equal(found.standardiser.mean, before.standardiser.mean)
    changed = sp500.copy()
    changed.iloc[split.test[0] :] *= 3
    later = merge_train_validation(prepare_study(changed, horizon))
    assert np.array_equal(later.standardiser.mean, found.standardiser.mean)
    assert np.array_equal(later.standardiser.scale, found.standardiser.scale)


def test_rows_whose_labels_reach_into_the_test_cannot_be_joined(prepared: WindowedData) -> None:
    split = prepared.split
    reaching = replace(split, validation=np.append(split.validation, split.test[0]))
    with pytest.raises(AssertionError, match="a training label reaches 2015-07"):
        merge_train_validation(replace(prepared, split=reaching))


@pytest.mark.parametrize("horizon", [1, 5])
def test_a_year_of_the_test_is_met_with_all_that_was_known_before_it(sp500: pd.DataFrame, horizon: int) -> None:
    whole = merge_train_validation(prepare_study(sp500, horizon=horizon))
    years = [walk_forward_fold(whole, year) for year in (2016, 2017, 2018)]
    days, first = whole.days, whole.split.test[whole.days[whole.split.test].year == 2015]
    # Every test day is predicted once, and the labels of training end just before the year.
    assert np.array_equal(np.concatenate([first, *(one.split.test for one in years)]), whole.split.test)
    for year, one in zip((2016, 2017, 2018), years, strict=True):
        ends, sessions = one.label_ends(one.split.train), days[days.year < year]
        assert ends.max() == sessions[-1]
        assert set(whole.split.train) < set(one.split.train)
        assert len(one.split.validation) == 0


def test_days_after_the_year_neither_train_nor_scale(sp500: pd.DataFrame) -> None:
    prepared = prepare_study(sp500, horizon=3)
    year = walk_forward_fold(merge_train_validation(prepared), 2017)
    values = prepared.values.copy()
    values[prepared.days.year >= 2017] = 1e9
    spoilt = walk_forward_fold(merge_train_validation(with_values(prepared, values)), 2017)
    assert np.array_equal(spoilt.split.train, year.split.train)
    assert np.array_equal(spoilt.standardiser.mean, year.standardiser.mean)
