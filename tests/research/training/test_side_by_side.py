"""Trials that are trained as one model end as each would have ended alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from research.models.kernels.native import switched_off
from research.models.patch_transformer import PatchTransformer, stacked
from research.runtime import Runtime
from research.spec import ArchitectureSpec, TrainingSpec
from research.task.windows import WindowDataset
from research.training.checkpoint import epochs_done
from research.training.trainer import Trainer, TrainingEnd, TrainingResult, TrialOver, build_model, build_stack
from research.training.trial_state import DivergedError, EpochRecord
from tests.research.training.test_trainer import ARCHITECTURE, CONTEXT, CPU, SPEC, SPLIT, Listening, noisy_labels, toy_values

BASE = replace(SPEC, learning_rate=3e-3, epochs=8, patience=3)
FOUR = (
    replace(BASE, seed=1, dropout=0.3),
    replace(BASE, seed=2, learning_rate=1e-2, weight_decay=0.3, dropout=0.1),
    replace(BASE, seed=3, learning_rate=1e-3, warmup_steps=7, patience=8),
    replace(BASE, seed=4, learning_rate=2e-2, dropout=0.2, gradient_clip=0.1),
)
WIDER = replace(ARCHITECTURE, window_norm=True, n_symbols=2, n_layers=2)


def dataset(labels: NDArray[np.int8] | None = None) -> WindowDataset:
    symbols = (np.arange(440) % 2).astype(np.int64)
    return WindowDataset(toy_values(), noisy_labels() if labels is None else labels, CONTEXT, CPU, symbols)


def alone(spec: TrainingSpec, architecture: ArchitectureSpec = ARCHITECTURE, checkpoint: Path | None = None) -> TrainingResult:
    trainer = Trainer(build_model(architecture, spec, CPU), dataset(), SPLIT, spec, Runtime(device=CPU))
    return trainer.run(Listening(), checkpoint)


def together(
    specs: Sequence[TrainingSpec],
    architecture: ArchitectureSpec = ARCHITECTURE,
    listeners: Sequence[Listening] | None = None,
    checkpoints: Sequence[Path | None] | None = None,
    micro_batch: int | None = None,
) -> list[TrainingEnd]:
    model = build_stack(architecture, specs, CPU)
    trainer = Trainer(model, dataset(), SPLIT, specs, Runtime(device=CPU, micro_batch=micro_batch))
    listeners = listeners or [Listening() for _ in specs]
    return trainer.run_all(listeners, checkpoints or [None] * len(specs))


def require_same(found: TrainingEnd, expected: TrainingResult) -> None:
    assert isinstance(found, TrainingResult)
    assert (found.best_epoch, len(found.epochs)) == (expected.best_epoch, len(expected.epochs))
    np.testing.assert_allclose(found.val_logits, expected.val_logits, atol=2e-4)
    for ours, theirs in zip(found.epochs, expected.epochs, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, abs=2e-5)
        assert ours.val_loss == pytest.approx(theirs.val_loss, abs=2e-5)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-3)
        assert ours.learning_rate == theirs.learning_rate
    for name, value in expected.weights.items():
        torch.testing.assert_close(felt(name, found.weights[name]), felt(name, value), atol=2e-4, rtol=1e-3)


def felt(name: str, weights: torch.Tensor) -> torch.Tensor:
    """Weights that the loss feels: a key's bias moves all scores of a query alike, so its gradient is rounding only."""
    if not name.endswith("qkv.bias"):
        return weights
    query, _, value = weights.chunk(3)
    return torch.cat([query, value])


@pytest.mark.parametrize("architecture", [ARCHITECTURE, WIDER], ids=["plain", "levels and symbols"])
@pytest.mark.parametrize("micro_batch", [None, 12])
def test_each_of_four_trials_ends_as_it_would_alone(architecture: ArchitectureSpec, micro_batch: int | None) -> None:
    results = together(FOUR, architecture, micro_batch=micro_batch)
    solo = [alone(spec, architecture) for spec in FOUR]
    # Their ends differ, so that the stack has to shrink on the way.
    assert len({len(one.epochs) for one in solo}) > 1
    for found, expected in zip(results, solo, strict=True):
        require_same(found, expected)
        assert found.side_by_side == 4


def test_without_kernels_it_is_the_same() -> None:
    with switched_off():
        for found, spec in zip(together(FOUR[:2]), FOUR[:2], strict=True):
            require_same(found, alone(spec))


def test_replicates_differ_by_their_seed_alone() -> None:
    first, second = together([replace(BASE, seed=1), replace(BASE, seed=2)])
    assert isinstance(first, TrainingResult)
    assert isinstance(second, TrainingResult)
    assert first.val_loss != second.val_loss


@pytest.mark.filterwarnings("ignore")
def test_a_trial_that_diverges_takes_no_other_with_it() -> None:
    wild = replace(BASE, learning_rate=1e6, warmup_steps=0, seed=9)
    first, diverged, last = together([FOUR[0], wild, FOUR[2]])
    assert isinstance(diverged, DivergedError)
    assert diverged.epoch == 1
    require_same(first, alone(FOUR[0]))
    require_same(last, alone(FOUR[2]))


class Stopping(Listening):
    def on_epoch(self, record: EpochRecord) -> None:
        super().on_epoch(record)
        if record.epoch == 2:
            raise TrialOver("enough")


def test_a_listener_ends_its_own_trial_only() -> None:
    listeners = [Listening(), Stopping()]
    first, stopped = together(FOUR[:2], listeners=listeners)
    require_same(first, alone(FOUR[0]))
    assert isinstance(stopped, TrialOver)
    assert len(listeners[1].records) == 2


class Killed(Listening):
    def on_epoch(self, record: EpochRecord) -> None:
        super().on_epoch(record)
        if record.epoch == 2:
            raise KeyboardInterrupt


def test_trials_stopped_together_go_on_alone_and_the_other_way_round(tmp_path: Path) -> None:
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    with pytest.raises(KeyboardInterrupt):
        together(FOUR[:2], listeners=[Listening(), Killed()], checkpoints=paths)
    assert [epochs_done(path) for path in paths] == [2, 2]
    require_same(alone(FOUR[0], checkpoint=paths[0]), alone(FOUR[0]))
    # The first has ended now and the second is at its second epoch: they are stacked all the same.
    listeners = [Listening(), Listening()]
    for found, spec in zip(together(FOUR[:2], listeners=listeners, checkpoints=paths), FOUR[:2], strict=True):
        require_same(found, alone(spec))
    assert listeners[1].steps[0] == 21


def test_a_stack_computes_what_its_models_compute() -> None:
    models = [build_model(WIDER, spec, CPU) for spec in FOUR]
    for model in models:
        torch.nn.init.normal_(model.head.weight)
    stack: PatchTransformer = stacked(models)
    for model in (*models, stack):
        model.eval()
    x_KBTF = torch.randn(4, 5, CONTEXT, 3)
    symbols_KB = torch.randint(0, 2, (4, 5))
    expected = torch.stack([model(x, s) for model, x, s in zip(models, x_KBTF, symbols_KB, strict=True)])
    torch.testing.assert_close(stack(x_KBTF, symbols_KB), expected)
