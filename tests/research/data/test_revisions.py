from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.bars import OHLCV, bars_digest
from research.data.revisions import DAY_STATUSES, BarRevisions, compare
from tests.conftest import random_bars

DAYS = 24
FATES = ("unchanged", "noise", "revised", "vanished", "filled")


@st.composite
def fates(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Old and new bars of one vendor, and what became of every day."""
    everything = random_bars(draw(st.integers(0, 50)), DAYS)
    fate = draw(st.lists(st.sampled_from(FATES), min_size=DAYS, max_size=DAYS))
    first = draw(st.integers(0, 4))
    last = DAYS - 1 - draw(st.integers(0, 4))
    fate[first] = fate[last] = "unchanged"
    fate = ["appended" if not first <= place <= last else word for place, word in enumerate(fate)]
    words = pd.Series(fate, index=everything.index)
    old = everything[words.isin(["unchanged", "noise", "revised", "vanished"])].copy()
    new = everything[words != "vanished"].copy()
    new.loc[words[new.index] == "noise", ["open", "close"]] *= 1 + 4e-7
    revised = new.index[words[new.index] == "revised"]
    column = draw(st.sampled_from(OHLCV))
    new.loc[revised, column] *= 1 + draw(st.sampled_from([-0.5, -1e-5, 1e-4, 3.0])) * (100 if column == "volume" else 1)
    return old, new, {f"{day:%Y-%m-%d}": word for day, word in words.items()}


def words_of(found: BarRevisions) -> dict[str, str]:
    return {f"{day:%Y-%m-%d}": word for day, word in found.status.items()}


@settings(max_examples=30, deadline=None)
@given(fates())
def test_any_mix_of_changes_is_classified_exactly(case: tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]):
    old, new, words = case
    found = compare("ABC", old, new)
    assert words_of(found) == words
    assert found.counts == {word: list(words.values()).count(word) for word in DAY_STATUSES}
    told = {(change.day, change.kind) for change in found.changes}
    assert told == {(day, word) for day, word in words.items() if word in ("revised", "vanished", "filled")}


@settings(max_examples=20, deadline=None)
@given(fates())
def test_merging_loses_no_day_and_takes_each_bar_by_its_status(
    case: tuple[pd.DataFrame, pd.DataFrame, dict[str, str]],
):
    old, new, words = case
    merged = compare("ABC", old, new).bars
    assert list(merged.index) == sorted({*old.index, *new.index})
    for day in merged.index:
        source = old if words[f"{day:%Y-%m-%d}"] in ("unchanged", "noise", "vanished") else new
        pd.testing.assert_series_equal(merged.loc[day], source.loc[day])


@settings(max_examples=20, deadline=None)
@given(fates(), st.integers(0, DAYS - 1))
def test_days_before_the_overlap_do_not_change(case: tuple[pd.DataFrame, pd.DataFrame, dict[str, str]], place: int):
    old, new, words = case
    since = old.index[min(place, len(old) - 1)]
    found = compare("ABC", old, new[new.index >= since], since=since)
    assert words_of(found) == {day: word for day, word in words.items() if day >= f"{since:%Y-%m-%d}"}
    pd.testing.assert_frame_equal(found.bars[found.bars.index < since], old[old.index < since], check_freq=False)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.floats(-9e-7, 9e-7), st.sampled_from([0.0, 1.0, -1.0]))
def test_noise_leaves_the_digest_as_it_is(seed: int, relative: float, shares: float):
    old = random_bars(seed, DAYS)
    new = old.copy()
    new[OHLCV[:4]] *= 1 + relative
    new["volume"] += shares
    assert bars_digest({"ABC": compare("ABC", old, new).bars}) == bars_digest({"ABC": old})


def test_a_day_without_a_session_that_the_vendor_withdraws_is_dropped_and_listed():
    old = random_bars(1, DAYS)
    sunday = old.index[5]
    found = compare("ABC", old, old.drop([sunday, old.index[9]]), keeps=lambda day: day != sunday)
    assert [(change.kind, change.day) for change in found.changes] == [
        ("dropped", f"{sunday:%Y-%m-%d}"),
        ("vanished", f"{old.index[9]:%Y-%m-%d}"),
    ]
    assert list(found.bars.index) == list(old.index.drop(sunday))
    assert found.gone == [f"{old.index[9]:%Y-%m-%d}"]


def test_a_day_that_was_withdrawn_earlier_is_not_reported_until_it_comes_back():
    old = random_bars(1, DAYS)
    lost = f"{old.index[9]:%Y-%m-%d}"
    again = compare("ABC", old, old.drop(old.index[9]), gone=frozenset([lost]))
    assert (again.changes, again.counts["vanished"], again.gone) == ([], 0, [lost])
    later = compare("ABC", old, old.iloc[15:], since=old.index[15], gone=frozenset([lost]))
    assert later.gone == [lost]
    back = compare("ABC", old, old, gone=frozenset([lost]))
    assert (back.gone, back.counts["unchanged"]) == ([], DAYS)


def with_events(bars: pd.DataFrame, **events: dict[int, float]) -> pd.DataFrame:
    bars = bars.assign(dividends=0.0, splits=0.0)
    for column, values in events.items():
        for place, value in values.items():
            bars.iloc[place, bars.columns.get_loc(column)] = value
    return bars


def rescaled(bars: pd.DataFrame, place: int, ratio: float) -> pd.DataFrame:
    """What a vendor makes of its history after a split on the day at `place`."""
    bars = bars.copy()
    earlier = bars.index < bars.index[place]
    bars.loc[earlier, [*OHLCV[:4], "dividends"]] /= ratio
    bars.loc[earlier, "volume"] = (bars.loc[earlier, "volume"] * ratio).round()
    bars.iloc[place, bars.columns.get_loc("splits")] = ratio
    return bars


@pytest.mark.parametrize(("place", "ratio"), [(12, 4.0), (22, 1.5), (20, 0.1), (1, 7.0)])
def test_a_split_is_one_line_and_gives_the_vendors_own_bars(place: int, ratio: float):
    old = with_events(random_bars(3, DAYS), dividends={0: 0.5}).iloc[:20]
    new = rescaled(with_events(random_bars(3, DAYS), dividends={0: 0.5}), place, ratio)
    found = compare("ABC", old, new)
    assert [(change.kind, change.day, change.new) for change in found.changes if change.kind != "split"] == [
        ("rescaled", f"{new.index[place]:%Y-%m-%d}", pytest.approx(1 / ratio))
    ]
    assert found.counts["rescaled"] == min(place, 20)
    assert found.counts["revised"] == found.counts["noise"] == 0
    pd.testing.assert_frame_equal(found.bars, new, check_freq=False)


def test_a_revision_inside_a_rescaled_history_is_still_found():
    old = with_events(random_bars(3, DAYS))
    new = rescaled(old, 20, 2.0)
    new.iloc[7, new.columns.get_loc("high")] *= 1.01
    (change,) = [one for one in compare("ABC", old, new).changes if one.kind == "revised"]
    assert (change.day, change.column) == (f"{old.index[7]:%Y-%m-%d}", "high")
    assert change.old == pytest.approx(old["high"].iloc[7] / 2)


def test_two_splits_multiply():
    old = with_events(random_bars(3, DAYS)).iloc[:18]
    new = rescaled(rescaled(with_events(random_bars(3, DAYS)), 8, 2.0), 20, 3.0)
    found = compare("ABC", old, new)
    assert [change.new for change in found.changes if change.kind == "rescaled"] == [pytest.approx(1 / 2), pytest.approx(1 / 3)]
    assert (found.counts["rescaled"], found.counts["revised"]) == (18, 0)


def test_a_split_that_the_prices_do_not_show_rescales_nothing():
    old = with_events(random_bars(3, DAYS))
    new = with_events(random_bars(3, DAYS), splits={12: 2.0})
    found = compare("ABC", old, new)
    assert [change.kind for change in found.changes] == ["split"]
    assert found.counts["unchanged"] == DAYS


@pytest.mark.parametrize(
    ("before", "after", "place", "asks"),
    [
        ({}, {22: 0.5}, 22, False),
        ({}, {15: 0.5}, 15, True),
        ({15: 0.5}, {15: 0.6}, 15, True),
        ({15: 0.5}, {}, 15, True),
        ({15: 0.5}, {15: 0.5 + 1e-7}, None, False),
    ],
)
def test_dividends_are_listed_and_an_old_one_requires_the_full_history(
    before: dict[int, float], after: dict[int, float], place: int | None, asks: bool
):
    old = with_events(random_bars(3, DAYS), dividends=before).iloc[:20]
    new = with_events(random_bars(3, DAYS), dividends=after)
    found = compare("ABC", old, new)
    listed = (
        [] if place is None else [("dividend", f"{new.index[place]:%Y-%m-%d}", before.get(place, 0.0), after.get(place, 0.0))]
    )
    assert [(change.kind, change.day, change.old, change.new) for change in found.changes] == listed
    assert found.requires_full_history(old.index[-1]) == asks
    if listed:
        assert found.bars["dividends"].iloc[place] == after.get(place, 0.0)


def test_a_vendors_adjusted_close_is_kept_only_where_one_request_brought_all_of_it():
    old = random_bars(3, DAYS).assign(adj_close=1.0)
    new = random_bars(3, DAYS).assign(adj_close=2.0)
    whole = compare("ABC", old, new.drop(new.index[4]))
    assert np.isnan(whole.bars["adj_close"].iloc[4])
    assert (whole.bars["adj_close"].drop(new.index[4]) == 2.0).all()
    assert "adj_close" not in compare("ABC", old, new.iloc[12:], since=new.index[12]).bars
