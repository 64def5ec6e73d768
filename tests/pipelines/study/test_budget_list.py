"""Parsing of BUDGETS, HORIZONS and WINDOWS, order of the sweeps, and the remaining-time estimate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.study.budget_list import SweepCost, busy_seconds, parse_budgets, parse_windows, seconds_left, study_sweeps
from research.errors import InputError
from research.models.budget import Budget

LABELS = {
    "20K": "20K",
    "20K,200K,2M": "20K 200K 2M",
    " 2m, 20k ,200K": "20K 200K 2M",
    "2K..2M": "2K 20K 200K 2M",
    "2K..2M/half": "2K 6K 20K 60K 200K 600K 2M",
    "1K .. 30K / half": "1K 3K 10K 30K",
    "2K..20K/half,1M": "2K 6K 20K 1M",
    "2K..20K/half,6K,20K..200K": "2K 6K 20K 200K",
    "2K..2K": "2K",
    "350K..35M": "350K 3.5M 35M",
}
MISTAKES = {
    "2M..2K": "2K is smaller than 2M; give the smaller end first.",
    "2K..25K": "25K is not a step of the range from 2K; the nearest is 20K.",
    "2K..50K/half": "50K is not a step of the range from 2K; the nearest is 60K.",
    "2K..6K": "6K is not a step of the range from 2K; the nearest is 2K.",
    "2K..2M/third": "the step third is unknown; give 2K..2M/half for half decades or 2K..2M for decades.",
    "2K..2M/": "the step after the slash is unknown; give 2K..2M/half for half decades or 2K..2M for decades.",
    "2K/half": "2K/half has a step but no end; give a range, as in 2K..2M/half.",
    "20K,,2M": "nothing is no number of parameters; give a list like 20K,200K,2M or a range like 2K..2M/half.",
    "2K..": "nothing is no number of parameters; give a list like 20K,200K,2M or a range like 2K..2M/half.",
    "banana": "banana is no number of parameters; give a list like 20K,200K,2M or a range like 2K..2M/half.",
}


@pytest.mark.parametrize("text", LABELS)
def test_budgets_read_as_lists_ranges_and_mixes(text: str) -> None:
    assert " ".join(budget.label for budget in parse_budgets(text)) == LABELS[text]


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_budgets_names_the_value_and_the_fix(text: str) -> None:
    with pytest.raises(InputError) as mistake:
        parse_budgets(text)
    assert str(mistake.value) == f"BUDGETS={text}: {MISTAKES[text]}"


@given(st.integers(1, 9), st.integers(0, 6), st.integers(0, 8))
def test_half_decades_have_one_digit_keep_both_ends_and_hold_the_decades(digit: int, power: int, half_steps: int) -> None:
    first = digit * 10**power
    last = _walk(first, half_steps)
    counts = [budget.n_parameters for budget in parse_budgets(f"{first}..{last}/half")]
    assert (counts[0], counts[-1], len(counts)) == (first, last, half_steps + 1)
    assert all(len(str(count).rstrip("0")) == 1 for count in counts)
    assert counts == sorted(set(counts))
    whole = counts[: half_steps // 2 * 2 + 1 : 2]
    assert [budget.n_parameters for budget in parse_budgets(f"{first}..{whole[-1]}")] == whole


def _walk(first: int, half_steps: int) -> int:
    """The half decade this many steps above, by decimal text instead of powers."""
    decades, half = divmod(half_steps, 2)
    between = {1: 3, 2: 6, 3: 9, 4: 10, 5: 20, 6: 20, 7: 20, 8: 30, 9: 30}
    digit, zeros = int(str(first)[0]), str(first)[1:]
    return int(f"{between[digit] if half else digit}{zeros}{'0' * decades}")


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=8))
def test_a_list_is_sorted_and_without_repeats_whatever_its_order(counts: list[int]) -> None:
    budgets = parse_budgets(",".join(map(str, counts)))
    assert [budget.n_parameters for budget in budgets] == sorted(set(counts))


def test_cheap_budgets_come_first_and_horizons_within_them() -> None:
    budgets = [Budget(n_parameters=2_000_000), Budget(n_parameters=20_000), Budget(n_parameters=20_000)]
    titles = [sweep.title for sweep in study_sweeps(budgets, (5, 1, 3, 1))]
    assert titles == ["20K-h1", "20K-h3", "20K-h5", "2M-h1", "2M-h3", "2M-h5"]


@pytest.mark.parametrize(("horizons", "message"), [((), "HORIZONS=:"), ((1, 0), "HORIZONS=1,0:"), ((-3,), "HORIZONS=-3:")])
def test_horizons_that_are_none_are_refused(horizons: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        study_sweeps([Budget(n_parameters=2_000)], horizons)


def test_time_left_is_unknown_until_a_trial_was_measured() -> None:
    assert seconds_left([SweepCost(flops=1e6, trials_left=12)]) is None
    assert seconds_left([SweepCost(flops=1e6, trials_left=0)]) == 0


def test_time_left_scales_the_nearest_measured_size_by_flops() -> None:
    small = SweepCost(flops=1e6, trials_left=0, seconds=30.0)
    twins = [SweepCost(flops=1e7, trials_left=0, seconds=100.0), SweepCost(flops=1e7, trials_left=2, seconds=140.0)]
    large = SweepCost(flops=1e8, trials_left=3)
    assert seconds_left([small, *twins, large]) == pytest.approx(2 * 140 + 3 * 1200)
    assert seconds_left([small, large]) == pytest.approx(3 * 3000)


def test_trials_side_by_side_count_once_and_pauses_not_at_all() -> None:
    assert busy_seconds([(0, 4_000), (1_000, 3_000), (2_000, 5_000), (9_000, 10_000)]) == 6
    assert busy_seconds([]) == 0


def test_training_windows_are_an_axis_of_their_own() -> None:
    sweeps = study_sweeps(parse_budgets("2K,6K"), (1,), parse_windows("4K,1K"))
    assert [sweep.title for sweep in sweeps] == ["2K-h1-w1K", "2K-h1-w4K", "6K-h1-w1K", "6K-h1-w4K"]
    assert [sweep.row for sweep in sweeps][:2] == ["2K, 1K windows", "2K, 4K windows"]
    assert parse_windows("") == [None]
    with pytest.raises(InputError, match="WINDOWS=few: not a number of training windows"):
        parse_windows("1K,few")
