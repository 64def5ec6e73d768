"""Low memory changes where numbers lie, not what is learned: Adafactor's formula, rounding that is right in the mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec
from research.training.low_memory import Adafactor, low_memory_model, stochastically_rounded, to_low_memory
from research.training.optim import build_optimizer
from tests.research.training.test_continue import stopped_and_continued, values_of
from tests.research.training.test_trainer import (
    SPEC,
    Listening,
    newest_day_labels,
    noisy_labels,
    toy_trainer,
    toy_values,
    trained,
)

ARCHITECTURE = ArchitectureSpec(d_model=16, n_layers=2, n_heads=2, d_ff=32, n_features=3, window_norm=True, n_symbols=2)
TRAINING = replace(SPEC, optimizer="adafactor", weight_decay=0.1)
LOW = replace(TRAINING, dropout=0.2, epochs=5, patience=3)
STEPS = 5


def float_model() -> PatchTransformer:
    torch.manual_seed(0)
    return PatchTransformer(ARCHITECTURE)


def rounded_model(dropout: float = 0.0) -> PatchTransformer:
    torch.manual_seed(0)
    return low_memory_model(ARCHITECTURE, dropout)


def loss_of(model: PatchTransformer, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    x_BTF = torch.randn(8, ARCHITECTURE.context_length, ARCHITECTURE.n_features, generator=generator)
    y_B = (x_BTF[:, -1, 0] > 0).float()
    return F.binary_cross_entropy_with_logits(model(x_BTF, torch.arange(8) % 2), y_B)


def take_steps(model: PatchTransformer, optimizer: Adafactor, steps: int = STEPS, first: int = 0) -> None:
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


def like_torch(parameter: nn.Parameter, rate: float, decay: float, step: int, optimizer: torch.optim.Adafactor) -> None:
    """Set a group of torch's optimizer, whose rate is a multiple of the weights' size, to the absolute rate and decay."""
    size = max(float(parameter.detach().norm()) / parameter.numel() ** 0.5, optimizer.defaults["eps"][1])
    group = next(group for group in optimizer.param_groups if group["params"][0] is parameter)
    group["lr"], group["weight_decay"] = rate / size, decay * size
    assert group["lr"] < step**-0.5  # Above this, torch's own schedule would set in.


def test_the_formula_is_that_of_torch() -> None:
    ours, theirs = float_model(), float_model()
    spec = replace(TRAINING, learning_rate=1e-4)
    optimizer = Adafactor(ours.named_parameters(), spec, ARCHITECTURE)
    groups = [{"params": [parameter]} for parameter in theirs.parameters()]
    reference = torch.optim.Adafactor(groups, eps=(1e-15, 1e-3), d=spec.gradient_clip)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for step in range(1, STEPS + 1):
        for mine, parameter in zip(ours.parameters(), theirs.parameters(), strict=True):
            # Of every size; a gradient of the model's own is zero at the first step, and of a key's bias always.
            parameter.grad = torch.randn_like(parameter) * 10 ** torch.randn(parameter.shape[-1])
            mine.grad = parameter.grad.clone()
            like_torch(parameter, spec.learning_rate, decays[id(mine)], step, reference)
        reference.step()
        optimizer.step()
        for (name, mine), parameter in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, parameter, atol=2e-7, rtol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_the_same_weights_decay_and_the_same_rates_are_scaled_as_with_adamw() -> None:
    spec, model = replace(TRAINING, base_width=4), float_model()
    ours = Adafactor(model.named_parameters(), spec, ARCHITECTURE, fused=False).param_groups
    theirs = build_optimizer(model.named_parameters(), spec, ARCHITECTURE).param_groups
    for mine, other in zip(ours, theirs, strict=True):
        assert [id(p) for p in mine["params"]] == [id(p) for p in other["params"]]
        assert {key: mine.get(key) for key in ("lr", "lr_scale", "weight_decay")} == {
            key: other.get(key) for key in ("lr", "lr_scale", "weight_decay")
        }


def test_updates_within_backward_are_those_after_it() -> None:
    within, after = float_model(), float_model()
    take_steps(within, Adafactor(within.named_parameters(), TRAINING, ARCHITECTURE))
    take_steps(after, Adafactor(after.named_parameters(), TRAINING, ARCHITECTURE, fused=False))
    for mine, other in zip(within.parameters(), after.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_no_gradient_outlives_the_backward_pass() -> None:
    model = rounded_model()
    before = [parameter.clone() for parameter in model.parameters()]
    Adafactor(model.named_parameters(), TRAINING, ARCHITECTURE)
    for step in range(2):  # At the first step the head is zero and lets no gradient through.
        loss_of(model, step).backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_the_gradient_norm_is_that_of_all_gradients_of_a_step() -> None:
    model = float_model()
    optimizer = Adafactor(model.named_parameters(), TRAINING, ARCHITECTURE, fused=False)
    for step in range(2):
        loss_of(model, step).backward()
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        optimizer.step()
        assert float(optimizer.gradient_norm()) == pytest.approx(float(norm), rel=1e-5)


def test_an_update_is_no_larger_than_the_clip() -> None:
    model = float_model()
    spec = replace(TRAINING, gradient_clip=0.25, weight_decay=0.0)
    optimizer = Adafactor(model.named_parameters(), spec, ARCHITECTURE)
    take_steps(model, optimizer, 2)
    before = [parameter.clone() for parameter in model.parameters()]
    take_steps(model, optimizer, 1, first=2)
    for old, new in zip(before, model.parameters(), strict=True):
        assert float((new - old).detach().square().mean().sqrt()) <= 1.001 * spec.learning_rate * spec.gradient_clip


@given(st.floats(1e-30, 1e30), st.booleans())
@settings(deadline=None, max_examples=30)
def test_rounding_is_right_in_the_mean(size: float, negative: bool) -> None:
    times = 20_000
    exact = torch.full((times,), -size if negative else size)
    below, above = (exact[0].view(torch.int32) & -(2**16)).view(torch.float32), exact[0].bfloat16().float()
    rounded = stochastically_rounded(exact.clone(), torch.Generator().manual_seed(1))
    step = max(abs(float(above - below)), abs(float(below)) * 2**-7)
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert len(rounded.unique()) <= 2
    # Half a step is the largest standard deviation that one rounding can have; five standard errors.
    assert float((rounded.double() - exact.double()).mean()) == pytest.approx(0, abs=5 * 0.5 * step / times**0.5)


def test_rounding_leaves_what_is_a_bfloat16_number_or_none_at_all() -> None:
    noise = torch.Generator()
    numbers = torch.randn(1000).bfloat16().float()
    assert torch.equal(stochastically_rounded(numbers.clone(), noise), numbers)
    odd = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0]).repeat(100)
    assert torch.equal(stochastically_rounded(odd.clone(), noise).nan_to_num(nan=7.0), odd.nan_to_num(nan=7.0))


def test_updates_too_small_for_a_bfloat16_number_arrive_in_the_mean() -> None:
    # 1 - 1e-4 is between two numbers that are 1/256 apart; a hundred such steps are a move of 0.01.
    weights, noise = torch.ones(100, 100), torch.Generator().manual_seed(0)
    for _ in range(100):
        weights = stochastically_rounded(weights - 1e-4, noise)
    assert float(weights.mean()) == pytest.approx(0.99, abs=0.0005)


def test_a_low_memory_model_has_the_numbers_of_a_plain_one_rounded() -> None:
    plain, low, turned = float_model(), rounded_model(), to_low_memory(float_model())
    assert low.recompute
    assert turned.recompute
    for (name, value), mine, other in zip(plain.named_parameters(), low.parameters(), turned.parameters(), strict=True):
        stored = torch.bfloat16 if value.ndim >= 2 else torch.float32
        assert mine.dtype == other.dtype == stored, name
        assert torch.equal(mine, value.to(stored))
        assert torch.equal(other, value.to(stored))


def test_recomputed_blocks_drop_what_they_dropped_before() -> None:
    gradients = []
    for recompute in (True, False):
        model = rounded_model(dropout=0.5)
        model.recompute = recompute
        nn.init.ones_(model.head.weight)
        torch.manual_seed(5)
        loss_of(model, 0).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for mine, other in zip(*gradients, strict=True):
        assert mine is not None
        assert torch.equal(mine, other)


def test_what_the_newest_day_decides_is_learned_in_low_memory() -> None:
    result = trained(replace(TRAINING, epochs=12))
    assert result.val_loss < 0.1
    labels = newest_day_labels(toy_values())[300:400]
    assert ((result.val_logits > 0) == labels).mean() > 0.95


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_stopped_training_ends_as_if_it_had_not_been(epoch: int, tmp_path: Path) -> None:
    whole = toy_trainer(LOW, labels=noisy_labels())
    expected = whole.run(Listening())
    assert len(expected.epochs) > epoch
    found, _ = stopped_and_continued(LOW, epoch, tmp_path / "c.safetensors")
    assert values_of(found) == values_of(expected)
    assert all(torch.equal(found.weights[name], value) for name, value in expected.weights.items())
    assert any(value.dtype == torch.bfloat16 for value in found.weights.values())


def test_a_restored_optimizer_goes_on_to_the_bit() -> None:
    model, other = rounded_model(), rounded_model()
    optimizer = Adafactor(model.named_parameters(), TRAINING, ARCHITECTURE)
    take_steps(model, optimizer, 3)
    state = {"state": {index: dict(values) for index, values in optimizer.state_dict()["state"].items()}}
    other.load_state_dict(model.state_dict())
    again = Adafactor(other.named_parameters(), replace(TRAINING, seed=9), ARCHITECTURE)
    again.load_state_dict(state)
    for both in ((model, optimizer), (other, again)):
        take_steps(*both, 3, first=3)
    for mine, parameter in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, parameter)
