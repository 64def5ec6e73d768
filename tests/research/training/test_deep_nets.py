"""The deepest nets of the grids start finite and learn sixteen windows by heart at every learning rate of a sweep's range."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
import torch

from research.models.budget import REFERENCE_GRID, SMALL_GRID
from research.models.patch_transformer import PatchTransformer
from research.runtime import Runtime
from research.spec import ArchitectureSpec, TrainingSpec
from research.task.splits import Split
from research.task.windows import WindowDataset
from research.training.trainer import Trainer, TrialOver, build_model
from research.training.trial_state import DivergedError, EpochRecord

CPU = torch.device("cpu")
WINDOWS = 16
DEEPEST, SMALL_DEEPEST = max(REFERENCE_GRID.depths), max(SMALL_GRID.depths)
NARROWEST, SMALL_NARROWEST = min(REFERENCE_GRID.widths), min(SMALL_GRID.widths)
BY_HEART = 0.01


class Until:
    """Keeps the training losses and stops at one that is low enough."""

    def __init__(self, loss: float) -> None:
        self.loss = loss
        self.losses: list[float] = []

    def on_step(self, step: int) -> None:
        pass

    def on_epoch(self, record: EpochRecord) -> None:
        self.losses.append(record.train_loss)
        if record.train_loss <= self.loss:
            raise TrialOver


def shape(width: int, depth: int, heads: int) -> ArchitectureSpec:
    return ArchitectureSpec(d_model=width, n_layers=depth, n_heads=heads, d_ff=2 * width)


def losses(
    architecture: ArchitectureSpec,
    rate: float,
    *,
    steps: int,
    warmup: int = 0,
    windows: int = WINDOWS,
    seed: int = 0,
    change: Callable[[PatchTransformer], None] = lambda model: None,
) -> list[float]:
    """Loss before each step of a training on random windows, half of them positive; it ends when they are known by heart."""
    context = architecture.context_length
    days = context * (windows + 1)
    values = np.random.default_rng(seed).standard_normal((days, architecture.n_features)).astype(np.float32)
    rows = np.arange(context - 1, days, context)
    labels = np.zeros(days, dtype=np.int8)
    labels[rows[::2]] = 1
    # Nothing can be learned for the one validation day, which a trainer must have.
    split = Split(train=rows[:windows], validation=rows[windows:], test=rows[windows:])
    spec = TrainingSpec(
        learning_rate=rate,
        weight_decay=5e-3,
        dropout=0.0,
        warmup_steps=warmup,
        batch_size=windows,
        epochs=steps,
        patience=steps,
        seed=seed,
    )
    model = build_model(architecture, spec, CPU)
    change(model)
    until = Until(BY_HEART / 10)
    trainer = Trainer(model, WindowDataset(values, labels, context, CPU), split, spec, Runtime(device=CPU))
    with suppress(TrialOver):
        trainer.run(until)
    return until.losses


def without_residual_scaling(model: PatchTransformer) -> None:
    with torch.no_grad():
        for block in model.blocks:
            block.attention.out.weight.mul_((2 * len(model.blocks)) ** 0.5)
            block.contract.weight.mul_((2 * len(model.blocks)) ** 0.5)


@pytest.mark.slow
def test_the_deepest_net_learns_by_heart() -> None:
    curve = losses(shape(NARROWEST, DEEPEST, 8), 3e-3, steps=40, warmup=20)
    assert curve[0] == pytest.approx(np.log(2), abs=1e-5)
    assert curve[-1] <= BY_HEART


@pytest.mark.parametrize("rate", [3e-3, 1e-2])
def test_the_deepest_net_of_the_small_grid_learns_by_heart(rate: float) -> None:
    assert losses(shape(SMALL_NARROWEST, SMALL_DEEPEST, 1), rate, steps=120, warmup=20)[-1] <= BY_HEART


def test_a_deep_net_that_explodes_is_flagged_with_its_epoch() -> None:
    with pytest.raises(DivergedError, match="epoch 2") as raised:
        losses(shape(SMALL_NARROWEST, SMALL_DEEPEST, 1), 1e4, steps=5)
    assert raised.value.epoch == 2


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e-3, 3e-3, 1e-2])
@pytest.mark.parametrize(("depth", "heads", "warmup"), [(256, 8, 50), (256, 8, 0), (192, 32, 50), (128, 2, 50)])
def test_deep_nets_learn_by_heart_at_every_rate(depth: int, heads: int, warmup: int, rate: float) -> None:
    assert losses(shape(NARROWEST, depth, heads), rate, steps=100, warmup=warmup)[-1] <= BY_HEART


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "heads"), [(256, 8), (192, 32), (128, 2)])
def test_deep_nets_learn_slowly_at_the_lowest_rate(depth: int, heads: int) -> None:
    curve = losses(shape(NARROWEST, depth, heads), 1e-4, steps=120, warmup=50)
    assert curve[-1] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("heads", SMALL_GRID.heads)
@pytest.mark.parametrize(("rate", "reached"), [(1e-4, 0.65), (1e-3, 2 * BY_HEART), (3e-3, BY_HEART), (1e-2, BY_HEART)])
def test_the_deepest_nets_of_the_small_grid_learn_at_every_rate(heads: int, rate: float, reached: float) -> None:
    """At the lowest rate nets of width 4 have only begun after three hundred steps."""
    assert losses(shape(SMALL_NARROWEST, SMALL_DEEPEST, heads), rate, steps=300, warmup=50)[-1] <= reached


@pytest.mark.slow
def test_residual_scaling_lets_the_deepest_net_learn_sooner() -> None:
    """In how many steps, not how well after fifty: there the last bit of a sum decides."""
    how = {"steps": 50, "warmup": 20, "windows": 64}
    scaled = losses(shape(NARROWEST, DEEPEST, 8), 3e-3, **how)
    assert scaled[-1] <= BY_HEART
    assert len(scaled) < len(losses(shape(NARROWEST, DEEPEST, 8), 3e-3, change=without_residual_scaling, **how))
