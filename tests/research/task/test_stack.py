"""Several instruments: the same dates split them all, no window crosses from one into the next, and data can be an axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import InputError
from research.features.feature_sets import A25S, build
from research.spec import SplitSpec, TargetSpec
from research.task.splits import holdout, holdout_ends
from research.task.targets import label
from research.task.windows import InstrumentData, WindowedData, stack_windows
from tests.conftest import SPLIT, random_bars

CPU = torch.device("cpu")


def part_of(
    symbol: str, bars: pd.DataFrame, spec: SplitSpec = SPLIT, horizon: int = 3, context_length: int = 60
) -> InstrumentData:
    matrix, target = build(A25S, bars), label(bars, TargetSpec(horizon=horizon))
    return InstrumentData(
        symbol=symbol, matrix=matrix, target=target, split=holdout(target, spec, matrix.first_row, context_length)
    )


def pool(bars: Mapping[str, pd.DataFrame], *, windows: int | None = None, validate_on: list[str] | None = None) -> WindowedData:
    spec = replace(SPLIT, train_windows=windows)
    return stack_windows([part_of(symbol, one, spec) for symbol, one in bars.items()], 60, validate_on=validate_on)


@pytest.fixture(scope="module")
def both(bundled_bars: dict[str, pd.DataFrame]) -> WindowedData:
    # A younger instrument, so that the rows of one day differ between the two.
    return pool({"^GSPC": bundled_bars["^GSPC"], "^IXIC": bundled_bars["^IXIC"][400:]})


def test_every_window_is_the_one_of_its_instrument_alone(both: WindowedData, bundled_bars: dict[str, pd.DataFrame]):
    dataset = both.dataset(CPU)
    starts = [0, len(bundled_bars["^GSPC"])]
    for place, part in enumerate(both.parts):
        rows = np.concatenate([part.split.train, part.split.validation, part.split.test])
        x_BTF, y_B = dataset.gather(dataset.rows(rows + starts[place]))
        alone = both.standardiser.apply(part.matrix.values)
        for index in (0, len(part.split.train) - 1, -1):
            np.testing.assert_array_equal(x_BTF[index], alone[rows[index] - 59 : rows[index] + 1])
        assert torch.isfinite(x_BTF).all()
        np.testing.assert_array_equal(y_B, part.target.labels[rows])
        assert (dataset.symbols_R[rows + starts[place]] == place).all()


def test_rows_before_an_instruments_first_complete_one_are_zero(both: WindowedData):
    """A hole left in one instrument's warm-up would spoil whatever reads the whole table."""
    assert np.isfinite(both.standardised).all()
    younger = len(both.parts[0].matrix.days)
    first = younger + both.parts[1].matrix.first_row
    assert not both.standardised[younger:first].any()
    assert both.standardised[first].any()


def test_a_label_ends_on_its_own_instruments_session(both: WindowedData):
    younger, horizon = len(both.parts[0].matrix.days), both.parts[0].target.spec.horizon
    rows = np.array([300, younger + 300])
    assert list(both.label_ends(rows)) == [part.matrix.days[300 + horizon] for part in both.parts]


def test_no_training_label_of_any_instrument_reaches_a_validation_day(both: WindowedData):
    train, validation, test = (getattr(both.split, name) for name in ("train", "validation", "test"))
    assert both.label_ends(train).max() < both.days[validation].min()
    assert both.label_ends(validation).max() < both.days[test].min()
    assert both.days[train].max() <= pd.Timestamp(SPLIT.train_end)
    for place in (0, 1):
        assert set(both.days[validation[both.symbols[validation] == place]].year) == {2012, 2013, 2014, 2015}


def test_the_scaler_is_fitted_on_the_training_windows_of_all_instruments(both: WindowedData):
    trained = [part.matrix.values[part.matrix.first_row : part.split.train[-1] + 1] for part in both.parts]
    np.testing.assert_allclose(both.standardiser.mean, np.concatenate(trained).mean(axis=0))


def test_one_instrument_in_a_pool_of_one_is_the_study_of_that_instrument(prepared: WindowedData, sp500: pd.DataFrame):
    single = stack_windows([part_of("^GSPC", sp500, horizon=1)], 60)
    np.testing.assert_array_equal(single.standardised, prepared.standardised)
    assert single.target_digest == prepared.parts[0].target.digest
    assert single.feature_digest == prepared.parts[0].matrix.digest


def test_only_the_chosen_instruments_are_validated_and_tested(both: WindowedData, bundled_bars: dict[str, pd.DataFrame]):
    chosen = pool(bundled_bars, validate_on=["^GSPC"])
    assert chosen.validated == ["^GSPC"]
    assert set(chosen.symbols[chosen.split.train]) == {0, 1}
    assert set(chosen.symbols[chosen.split.test]) == {0}
    np.testing.assert_array_equal(chosen.split.validation, pool({"^GSPC": bundled_bars["^GSPC"]}).split.validation)


@pytest.mark.parametrize("windows", [1, 2, 1001, 5000])
def test_fewer_windows_are_the_most_recent_days_of_all_instruments(bundled_bars: dict[str, pd.DataFrame], windows: int):
    every, fewer = pool(bundled_bars), pool(bundled_bars, windows=windows)
    assert len(fewer.split.train) == windows
    assert fewer.windows_from == "recent"
    assert set(fewer.split.train) <= set(every.split.train)
    left_out = np.setdiff1d(every.split.train, fewer.split.train)
    assert every.days[left_out].max() <= fewer.days[fewer.split.train].min()
    np.testing.assert_array_equal(fewer.split.validation, every.split.validation)
    np.testing.assert_array_equal(fewer.split.test, every.split.test)


def test_a_window_count_is_the_start_of_every_larger_one(bundled_bars: dict[str, pd.DataFrame]):
    taken = [set(pool(bundled_bars, windows=windows).split.train) for windows in (500, 1000, 2000)]
    assert taken[0] < taken[1] < taken[2]


def test_windows_from_everywhere_span_the_history_and_are_part_of_every_larger_number(sp500: pd.DataFrame):
    taken = []
    for windows in (300, 600):
        spec = replace(SPLIT, train_windows=windows, windows_from="everywhere")
        found, again = (stack_windows([part_of("^GSPC", sp500, spec)], 60) for _ in range(2))
        np.testing.assert_array_equal(found.split.train, again.split.train)
        assert found.windows_from == "everywhere"
        years = found.days[found.split.train].year
        assert set(years) == set(range(2000, 2012))
        taken.append(set(found.split.train))
        covered = np.unique((found.split.train[:, None] - np.arange(60)).ravel())
        np.testing.assert_allclose(found.standardiser.mean, found.values[covered].mean(axis=0))
    assert len(taken[0]) == 300
    assert taken[0] < taken[1]


def test_the_scaler_sees_nothing_but_the_windows_that_were_taken(sp500: pd.DataFrame):
    fewer = pool({"^GSPC": sp500}, windows=300)
    first, last = fewer.split.train[0] - 59, fewer.split.train[-1]
    np.testing.assert_allclose(fewer.standardiser.mean, fewer.values[first : last + 1].mean(axis=0))


def test_more_windows_than_there_are_is_refused_with_the_number_there_is(sp500: pd.DataFrame):
    there = len(pool({"^GSPC": sp500}).split.train)
    assert len(pool({"^GSPC": sp500}, windows=there).split.train) == there
    whole = replace(SPLIT, train_windows=there, windows_from="everywhere")
    assert stack_windows([part_of("^GSPC", sp500, whole)], 60).windows_from == "everywhere"
    with pytest.raises(InputError, match=f"WINDOWS={there + 1}: there are {there:,} training windows"):
        pool({"^GSPC": sp500}, windows=there + 1)


@given(seed=st.integers(0, 1000), lengths=st.lists(st.integers(320, 500), min_size=1, max_size=3))
@settings(deadline=None, max_examples=25)
def test_windows_of_random_pools_never_cross_a_border(seed: int, lengths: list[int]):
    bars = {f"S{place}": random_bars(seed + place, days, start="2010-01-04") for place, days in enumerate(lengths)}
    days = pd.DatetimeIndex(np.concatenate([one.index.to_numpy() for one in bars.values()]))
    train, validation, test = holdout_ends(days)
    spec = SplitSpec(train_end=train, validation_end=validation, test_end=test)
    try:
        found = stack_windows([part_of(symbol, one, spec, horizon=2, context_length=20) for symbol, one in bars.items()], 20)
    except InputError:
        return  # the shortest instrument has no training day before the common date
    rows = np.concatenate([found.split.train, found.split.validation, found.split.test])
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(found.symbols[rows], found.symbols[rows - 19])
    assert np.isfinite(found.values[np.unique((rows[:, None] - np.arange(20)).ravel())]).all()
    assert (found.labels[rows] >= 0).all()
    assert found.label_ends(found.split.train).max() <= pd.Timestamp(train)


def test_the_usual_borders_are_shares_of_the_sessions(sp500: pd.DataFrame):
    train, validation, test = holdout_ends(pd.DatetimeIndex(sp500.index))
    assert test == sp500.index[-1].date()
    assert (pd.DatetimeIndex(sp500.index) <= pd.Timestamp(train)).mean() == pytest.approx(0.65, abs=0.001)
    assert (pd.DatetimeIndex(sp500.index) <= pd.Timestamp(validation)).mean() == pytest.approx(0.825, abs=0.001)


def test_the_usual_borders_count_a_session_of_two_instruments_once(sp500: pd.DataFrame):
    alone = holdout_ends(pd.DatetimeIndex(sp500.index))
    newest = pd.DatetimeIndex(np.concatenate([sp500.index.to_numpy(), sp500.index[3000:].to_numpy()]))
    assert holdout_ends(newest) == alone
