"""Decay acts on weight matrices alone; the rate rises to its peak, then falls to a tenth of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from research.models.layers import Linear
from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec, TrainingSpec
from research.training.optim import FINAL_SHARE, WarmupCosine, build_optimizer

SPEC = TrainingSpec(
    learning_rate=1e-2,
    weight_decay=0.3,
    dropout=0.0,
    warmup_steps=5,
    batch_size=8,
    epochs=1,
    patience=1,
    seed=0,
)


@pytest.fixture
def model() -> PatchTransformer:
    torch.manual_seed(0)
    return PatchTransformer(ArchitectureSpec(d_model=8, n_layers=2, n_heads=2, d_ff=16, n_features=3, window_norm=True))


def schedule(warmup_steps: int, total_steps: int, peak: float = 1e-2) -> WarmupCosine:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))]}, {"params": [nn.Parameter(torch.ones(1))]}], lr=peak)
    return WarmupCosine(optimizer, warmup_steps, total_steps)


def test_every_parameter_is_in_exactly_one_group(model: PatchTransformer) -> None:
    grouped = [
        id(p)
        for group in build_optimizer(model.named_parameters(), SPEC, model.architecture).param_groups
        for p in group["params"]
    ]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_only_weight_matrices_decay(model: PatchTransformer) -> None:
    optimizer = build_optimizer(model.named_parameters(), SPEC, model.architecture)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    matrices = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Linear)}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)  # Without a gradient, decay is all that moves a weight.
    optimizer.step()
    kept = 1 - SPEC.learning_rate * SPEC.weight_decay
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (kept if name in matrices else 1))
    assert {"level.weight", "embedding.weight", "head.weight"} < matrices


def test_decay_of_each_group_is_as_asked(model: PatchTransformer) -> None:
    decays = {
        group["weight_decay"] for group in build_optimizer(model.named_parameters(), SPEC, model.architecture).param_groups
    }
    assert decays == {SPEC.weight_decay, 0.0}


@given(st.integers(1, 50), st.integers(1, 500))
@settings(deadline=None)
def test_warm_up_is_linear_and_ends_at_the_peak(warmup_steps: int, more: int) -> None:
    one = schedule(warmup_steps, warmup_steps + more)
    shares = [one.share_at(step) for step in range(warmup_steps)]
    assert shares == pytest.approx([(step + 1) / warmup_steps for step in range(warmup_steps)])
    assert one.set(warmup_steps - 1) == one.peak


@given(st.integers(0, 50), st.integers(1, 500))
@settings(deadline=None)
def test_after_warm_up_the_rate_only_falls(warmup_steps: int, more: int) -> None:
    total_steps = warmup_steps + more
    one = schedule(warmup_steps, total_steps)
    shares = [one.share_at(step) for step in range(warmup_steps, total_steps + 1)]
    assert shares[0] == pytest.approx(1)
    assert shares[-1] == pytest.approx(FINAL_SHARE)
    assert all(earlier > later for earlier, later in pairwise(shares))
    if more % 2 == 0:
        assert shares[more // 2] == pytest.approx((1 + FINAL_SHARE) / 2)
    assert one.share_at(10 * total_steps) == pytest.approx(FINAL_SHARE)


@given(st.integers(0, 50), st.integers(1, 500), st.floats(1e-6, 10))
@settings(deadline=None)
def test_the_rate_never_exceeds_the_peak_nor_reaches_zero(warmup_steps: int, more: int, peak: float) -> None:
    one = schedule(warmup_steps, warmup_steps + more, peak)
    rates = [one.set(step) for step in range(warmup_steps + more)]
    assert max(rates) == pytest.approx(peak)
    assert max(rates) <= peak
    assert min(rates) > 0


def test_without_warm_up_training_starts_at_the_peak() -> None:
    assert schedule(0, 100).share_at(0) == 1


def test_setting_a_rate_sets_it_in_every_group(model: PatchTransformer) -> None:
    optimizer = build_optimizer(model.named_parameters(), SPEC, model.architecture)
    one = WarmupCosine(optimizer, SPEC.warmup_steps, 50)
    assert one.peak == SPEC.learning_rate
    for step in (0, 4, 30, 0):
        rate = one.set(step)
        assert rate == SPEC.learning_rate * one.share_at(step)
        assert [group["lr"] for group in optimizer.param_groups] == [rate, rate]
