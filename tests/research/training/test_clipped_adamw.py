"""The update in one pass is PyTorch's clipping and AdamW, and nobody who reads the optimizer's state can tell."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from research.models.kernels import native
from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec, TrainingSpec
from research.training.clipped_adamw import ClippedAdamW
from research.training.optim import WarmupCosine, build_optimizer

ARCHITECTURE = ArchitectureSpec(d_model=8, n_layers=2, n_heads=2, d_ff=24, n_features=3)
SPEC = TrainingSpec(
    learning_rate=1e-2, weight_decay=0.1, dropout=0.0, warmup_steps=3, batch_size=8, epochs=1, patience=1, seed=0, base_width=4
)

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C++ compiler: PyTorch's own update is the only one")


class Training:
    """A model that gets random gradients, the same ones for the same number of the step."""

    def __init__(self, max_norm: float = 1.0):
        torch.manual_seed(0)
        self.model = PatchTransformer(ARCHITECTURE)
        self.optimizer = build_optimizer(self.model.named_parameters(), SPEC, ARCHITECTURE)
        self.schedule = WarmupCosine(self.optimizer, 3, 20)
        self.update = ClippedAdamW(self.optimizer, list(self.model.parameters()), max_norm)
        self.number = 0

    def steps(self, count: int) -> list[float]:
        norms = []
        for _ in range(count):
            numbers = torch.Generator().manual_seed(self.number)
            for parameter in self.model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=numbers) * 10.0**-self.number
            self.schedule.set(self.number)
            norms.append(float(self.update.step()))
            self.number += 1
        return norms

    def plain_steps(self, count: int) -> list[float]:
        with native.switched_off():
            return self.steps(count)

    @property
    def weights(self) -> Tensor:
        return nn.utils.parameters_to_vector(self.model.parameters()).detach()


def test_equals_pytorch_with_and_without_clipping() -> None:
    fused, plain = Training(), Training()
    # Gradients shrink tenfold a step: the first steps are clipped, the last ones are not.
    norms, expected = fused.steps(4), plain.plain_steps(4)
    assert expected[0] > 1 > expected[-1]
    assert norms == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(fused.weights, plain.weights, rtol=1e-5, atol=1e-7)


def test_the_state_tells_the_same_story() -> None:
    fused, plain = Training(), Training()
    fused.steps(5)
    plain.plain_steps(5)
    ours, theirs = fused.optimizer.state_dict()["state"], plain.optimizer.state_dict()["state"]
    assert {float(state["step"]) for state in ours.values()} == {5.0}
    for index, state in theirs.items():
        for name, value in state.items():
            torch.testing.assert_close(ours[index][name], value, rtol=1e-4, atol=1e-9)


def test_goes_on_from_a_state_that_was_loaded() -> None:
    whole, first, second = Training(), Training(), Training()
    whole.steps(6)
    first.steps(3)
    second.steps(2)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    second.number = 3
    second.steps(3)
    assert torch.equal(second.weights, whole.weights)


def test_the_kernel_may_be_left_and_taken_up_again() -> None:
    mixed, plain = Training(), Training()
    mixed.steps(2)
    mixed.plain_steps(2)
    mixed.steps(2)
    plain.plain_steps(6)
    torch.testing.assert_close(mixed.weights, plain.weights, rtol=1e-5, atol=1e-7)
    assert {float(state["step"]) for state in mixed.optimizer.state_dict()["state"].values()} == {6.0}


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_is_seen(broken: float) -> None:
    training = Training()
    training.steps(2)
    for parameter in training.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    training.model.head.bias.grad = torch.full_like(training.model.head.bias, broken)
    assert not math.isfinite(float(training.update.step()))
    assert not training.weights.isfinite().all()


def test_gradients_that_do_not_lie_in_order_are_read_in_order() -> None:
    crossed, straight = Training(), Training()
    for training in (crossed, straight):
        training.steps(1)
        for parameter in training.model.parameters():
            whole = torch.randn(parameter.shape[::-1], generator=torch.Generator().manual_seed(1))
            parameter.grad = whole.permute(*reversed(range(whole.ndim)))
    for parameter in straight.model.parameters():
        parameter.grad = parameter.grad.contiguous() if parameter.grad is not None else None
    crossed.update.step()
    straight.update.step()
    assert torch.equal(crossed.weights, straight.weights)
