"""A final training follows the trial epoch by epoch, stops after the fixed number of epochs and uses no validation day."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from research.runtime import Runtime
from research.task.windows import WindowDataset
from research.training.fixed_length_trainer import FixedLengthTrainer
from research.training.trainer import Trainer, TrainingResult, build_model
from research.training.trial_state import EpochRecord
from tests.research.training.test_trainer import (
    ARCHITECTURE,
    CONTEXT,
    CPU,
    SPEC,
    SPLIT,
    Listening,
    newest_day_labels,
    toy_values,
)

NOTHING = np.array([], dtype=np.int64)
LONG = replace(SPEC, epochs=5, dropout=0.1)


def dataset() -> WindowDataset:
    values = toy_values()
    return WindowDataset(values, newest_day_labels(values), CONTEXT, CPU)


def final(stop_after: int, listener: Listening, checkpoint: Path | None = None) -> TrainingResult:
    split = replace(SPLIT, validation=NOTHING)
    model = build_model(ARCHITECTURE, LONG, CPU)
    trainer = FixedLengthTrainer(model, dataset(), split, LONG, Runtime(device=CPU, threads=1), stop_after=stop_after)
    return trainer.run(listener, checkpoint)


def test_it_is_the_trials_own_training_cut_short() -> None:
    """Rates, losses and weights are those of the trial's schedule of five epochs, not of one of two."""
    listening, whole = Listening(), Listening()
    found = final(2, listening)
    Trainer(build_model(ARCHITECTURE, LONG, CPU), dataset(), SPLIT, LONG, Runtime(device=CPU, threads=1)).run(whole)
    assert [record.learning_rate for record in listening.records] == [record.learning_rate for record in whole.records[:2]]
    assert [record.train_loss for record in listening.records] == [record.train_loss for record in whole.records[:2]]
    assert all(math.isnan(record.val_loss) for record in listening.records)
    assert (found.best_epoch, len(found.epochs), len(found.val_logits)) == (2, 2, 0)


def test_the_weights_are_those_of_the_last_epoch() -> None:
    one, two = final(1, Listening()), final(2, Listening())
    assert any(not torch.equal(one.weights[name], two.weights[name]) for name in one.weights)


def test_it_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    class Stopping(Listening):
        def on_epoch(self, record: EpochRecord) -> None:
            super().on_epoch(record)
            if record.epoch == 2:
                raise KeyboardInterrupt

    path = tmp_path / "final.safetensors"
    with pytest.raises(KeyboardInterrupt):
        final(3, Stopping(), path)
    resumed, straight = final(3, Listening(), path), final(3, Listening())
    assert len(resumed.epochs) == 3
    for name, value in straight.weights.items():
        assert torch.equal(resumed.weights[name], value)
