"""Identical forecasts differ by nothing, a real difference is seen, and chance is called chance."""

from __future__ import annotations

import numpy as np
import pytest
from arch.bootstrap import CircularBlockBootstrap
from numpy.typing import NDArray
from scipy.signal import lfilter

from research.evaluation import significance
from research.evaluation.significance import block_length, daily_means, paired_difference


def noise(seed: int, days: int, memory: float = 0.0) -> NDArray[np.float64]:
    """Daily losses around zero; `memory` is the correlation of two neighbouring days."""
    shocks = np.random.default_rng(seed).normal(size=days + 200)
    return np.asarray(lfilter([1], [1, -memory], shocks)[200:])


def share_inside_noise(days: int, memory: float, studies: int = 150) -> float:
    """How often two models that are equally good are called so."""
    found = [paired_difference(noise(seed, days, memory), np.zeros(days)) for seed in range(studies)]
    return sum(difference.inside_noise for difference in found) / studies


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "RESAMPLES", 200)


def test_identical_losses_differ_by_nothing() -> None:
    losses = np.abs(noise(0, 400))
    difference = paired_difference(losses, losses.copy())
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)
    assert difference.inside_noise


@pytest.mark.parametrize("shift", [-0.5, 0.5])
def test_a_large_shift_is_outside_noise_on_its_side(shift: float) -> None:
    others = noise(1, 800)
    difference = paired_difference(others + shift + 0.5 * noise(2, 800), others)
    assert not difference.inside_noise
    assert difference.mean == pytest.approx(shift, abs=0.06)
    assert difference.low < difference.mean < difference.high
    assert np.sign(difference.low) == np.sign(difference.high) == np.sign(shift)


def test_days_are_paired() -> None:
    """A small constant edge shows although each model's own losses vary far more than it."""
    shared = 10 * noise(3, 800)
    assert not paired_difference(shared + 0.05 + 0.1 * noise(4, 800), shared).inside_noise
    assert paired_difference(shared + 0.05, shared[::-1]).inside_noise


@pytest.mark.usefixtures("few_resamples")
def test_swapping_the_models_turns_the_interval_round() -> None:
    losses, others = noise(5, 500), noise(6, 500)
    one, other = paired_difference(losses, others), paired_difference(others, losses)
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))


def test_the_same_losses_give_the_same_interval() -> None:
    losses, others = noise(7, 300), noise(8, 300)
    assert paired_difference(losses, others) == paired_difference(losses, others)


@pytest.mark.parametrize("days", [2, 59, 60, 61, 877, 3520])
def test_the_resamples_are_those_of_arch_to_the_bit(days: int) -> None:
    differences = noise(12, days)
    block = min(significance.BLOCK_DAYS, max(1, days // 4))
    theirs = CircularBlockBootstrap(block, differences, seed=0).apply(np.mean, significance.RESAMPLES).ravel()
    assert np.array_equal(significance.resampled_means(differences), theirs)


@pytest.mark.usefixtures("few_resamples")
def test_chance_is_called_chance_in_nineteen_of_twenty_studies() -> None:
    assert 0.88 < share_inside_noise(days=1200, memory=0.0) < 0.99


@pytest.mark.usefixtures("few_resamples")
def test_blocks_keep_what_neighbouring_days_share(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = noise(9, 1500, memory=0.9)
    blocks = paired_difference(losses, np.zeros(1500))
    in_blocks = share_inside_noise(days=1500, memory=0.9, studies=60)
    monkeypatch.setattr(significance, "BLOCK_DAYS", 1)
    single = paired_difference(losses, np.zeros(1500))
    as_single_days = share_inside_noise(days=1500, memory=0.9, studies=60)

    assert blocks.high - blocks.low > 2 * (single.high - single.low)
    assert in_blocks > 0.8
    assert as_single_days < 0.6


@pytest.mark.usefixtures("few_resamples")
def test_the_interval_narrows_with_more_days() -> None:
    short, long = (paired_difference(noise(10, days), np.zeros(days)) for days in (400, 6400))
    assert (short.high - short.low) / (long.high - long.low) == pytest.approx(4, rel=0.4)


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("days", [2, 7, 59])
def test_fewer_days_than_a_block_still_have_an_interval(days: int) -> None:
    difference = paired_difference(noise(11, days), np.zeros(days))
    assert difference.low < difference.mean < difference.high


def test_blocks_have_sixty_days_where_there_are_enough() -> None:
    assert [block_length(days) for days in (2, 200, 240, 881)] == [1, 50, 60, 60]


def test_rows_of_one_day_become_one_value_and_the_mean_stays() -> None:
    losses = np.array([1.0, 3.0, 2.0, 6.0])
    days = np.array(["2020-01-03", "2020-01-02", "2020-01-03", "2020-01-02"], dtype="datetime64[D]")
    assert daily_means(losses, days).tolist() == [4.5, 1.5]
    assert daily_means(losses[:3], days[:3]).mean() == pytest.approx(losses[:3].mean())


def test_an_instrument_that_begins_late_widens_no_interval() -> None:
    """The same loss every day of every instrument has no noise, however many rows a day has."""
    days = np.concatenate([np.arange(600), np.arange(300, 600)])
    found = paired_difference(daily_means(np.full(900, 0.5), days), np.zeros(600))
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.usefixtures("few_resamples")
def test_the_interval_of_a_growing_pool_holds_the_true_mean() -> None:
    days = np.concatenate([np.arange(600), np.arange(300, 600)])
    found = [
        paired_difference(daily_means(0.5 + noise(seed, 600)[days] + noise(seed + 1000, 900), days), np.zeros(600))
        for seed in range(100)
    ]
    assert 0.85 <= np.mean([one.low <= 0.5 <= one.high for one in found]) <= 0.99


def test_counts_of_days_give_the_same_resampled_means() -> None:
    values = np.random.default_rng(3).normal(size=130)
    counts = np.concatenate(list(significance.resampled_counts(len(values))))
    assert (counts.sum(axis=1) == len(values)).all()
    assert counts @ values / len(values) == pytest.approx(significance.resampled_means(values), abs=1e-12)
