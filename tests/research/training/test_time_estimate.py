"""Predicted times add up as training does, and follow what the machine needs for a block."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from research.models.accounting import parameter_count
from research.spec import ArchitectureSpec
from research.training import time_estimate as speed
from research.training.time_estimate import Cost, TimeEstimator, timed_part

CPU = torch.device("cpu")
SMALL = ArchitectureSpec(d_model=16, n_layers=4, n_heads=2, d_ff=32)
BLOCK, STEM = Cost(fixed=1.0, each=0.1), Cost(fixed=0.5, each=0.05)
UPDATE = Cost(fixed=1e-3, each=1e-6)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> TimeEstimator:
    """A machine whose parts take known times."""
    monkeypatch.setattr(TimeEstimator, "_time_block", lambda self, a: BLOCK)
    monkeypatch.setattr(TimeEstimator, "_time_stem", lambda self, a: STEM)
    monkeypatch.setattr(TimeEstimator, "_time_update", lambda self: UPDATE)
    return TimeEstimator(CPU)


def test_a_step_is_its_micro_batches_through_all_blocks_and_one_update(known: TimeEstimator) -> None:
    update = 12 * 4 * 1e-3 + 1e-6 * parameter_count(SMALL)
    whole = 4 * (1 + 64 * 0.1) + (0.5 + 64 * 0.05)
    assert known.step(SMALL, batch_size=64, micro_batch=64) == pytest.approx(whole + update)
    fourth = 4 * (1 + 16 * 0.1) + (0.5 + 16 * 0.05)
    assert known.step(SMALL, batch_size=64, micro_batch=16) == pytest.approx(4 * fourth + update)
    rest = 4 * (1 + 4 * 0.1) + (0.5 + 4 * 0.05)
    assert known.step(SMALL, batch_size=20, micro_batch=16) == pytest.approx(fourth + rest + update)


def test_a_trial_is_its_steps_and_evaluations_for_every_epoch(known: TimeEstimator) -> None:
    step = known.step(SMALL, batch_size=64, micro_batch=64)
    evaluation = (4 * (1 + 300 * 0.1) + (0.5 + 300 * 0.05)) / 3
    found = known.trial(SMALL, batch_size=64, micro_batch=64, windows=(130, 300), epochs=5)
    assert found == pytest.approx(5 * (3 * step + evaluation))


def test_a_block_too_large_to_time_is_timed_in_part_and_scaled(known: TimeEstimator) -> None:
    large = replace(SMALL, d_model=2048, d_ff=8192, n_layers=1, n_heads=16)
    part = timed_part(large)
    assert (part.d_model, part.d_ff) == (2048, 4096)
    update = 12 * 1e-3 + 1e-6 * parameter_count(large)
    # 4d^2 + 8d + 2df + f + d for both.
    scale = (4 * 2048**2 + 9 * 2048 + 2 * 2048 * 8192 + 8192) / (4 * 2048**2 + 9 * 2048 + 2 * 2048 * 4096 + 4096)
    expected = scale * (1 + 8 * 0.1) + (0.5 + 8 * 0.05) + update
    assert known.step(large, batch_size=8, micro_batch=8) == pytest.approx(expected)


def test_no_timed_part_takes_more_than_300_megabytes() -> None:
    for d_model in (64, 1024, 2048, 4096):
        part = timed_part(replace(SMALL, d_model=d_model, d_ff=4 * d_model))
        weights_and_gradients = 8 * (parameter_count(replace(part, n_layers=2)) - parameter_count(part))
        assert weights_and_gradients < 300e6 or part.d_ff == 1


def test_heads_are_told_apart_only_where_they_show() -> None:
    wide, narrow = replace(SMALL, d_model=512, d_ff=1024), replace(SMALL, d_model=64, d_ff=128)
    assert timed_part(replace(wide, n_heads=2)) == timed_part(replace(wide, n_heads=32, n_layers=9))
    assert timed_part(replace(narrow, n_heads=2)) != timed_part(replace(narrow, n_heads=32))


def test_each_distinct_part_is_timed_once(known: TimeEstimator, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[ArchitectureSpec] = []
    monkeypatch.setattr(TimeEstimator, "_time_block", lambda self, a: timed.append(a) or BLOCK)
    for depth in (1, 2, 8):
        known.step(replace(SMALL, n_layers=depth), batch_size=8, micro_batch=8)
    assert len(timed) == 1


def test_a_real_block_takes_time_that_grows_with_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "TIMING_SECONDS", 0.0)
    monkeypatch.setattr(speed, "MOST_WINDOWS", 16)
    found = TimeEstimator(CPU)
    narrow, wide = (replace(SMALL, d_model=d, d_ff=4 * d, n_layers=2) for d in (16, 256))
    times = [found.step(a, batch_size=64, micro_batch=64) for a in (narrow, wide)]
    assert 0 < 5 * times[0] < times[1]
