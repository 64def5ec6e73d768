"""A training that was stopped after any epoch goes on from its checkpoint to the result it would have had, to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from research.spec import TrainingSpec
from research.training.checkpoint import Checkpoint, epochs_done, micro_batch_of
from research.training.trainer import TrainingResult
from research.training.trial_state import EpochRecord
from tests.research.training.test_trainer import SPEC, Listening, noisy_labels, toy_trainer

LONG = replace(SPEC, dropout=0.3, epochs=6, patience=3, weight_decay=0.1)


class StoppedError(Exception):
    pass


class StoppingAfter(Listening):
    """Stops training the moment an epoch has ended, as a kill would."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.last = epoch

    def on_epoch(self, record: EpochRecord) -> None:
        super().on_epoch(record)
        if record.epoch == self.last:
            raise StoppedError


def stopped_and_continued(spec: TrainingSpec, epoch: int, path: Path) -> tuple[TrainingResult, Listening]:
    with pytest.raises(StoppedError):
        toy_trainer(spec, labels=noisy_labels()).run(StoppingAfter(epoch), path)
    torch.rand(11)  # Whatever the next process draws before it goes on.
    listening = Listening()
    return toy_trainer(spec, labels=noisy_labels()).run(listening, path), listening


def values_of(result: TrainingResult) -> list[tuple[float, ...]]:
    return [(r.epoch, r.train_loss, r.val_loss, r.learning_rate, r.gradient_norm) for r in result.epochs]


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_a_stopped_training_ends_as_if_it_had_not_been(epoch: int, tmp_path: Path) -> None:
    whole = toy_trainer(LONG, labels=noisy_labels()).run(Listening())
    assert len(whole.epochs) > epoch
    result, listening = stopped_and_continued(LONG, epoch, tmp_path / "c.safetensors")
    assert values_of(result) == values_of(whole)
    assert result.best_epoch == whole.best_epoch
    assert np.array_equal(result.val_logits, whole.val_logits)
    # The curve is whole, yet only the epochs after the stop were trained.
    assert [record.epoch for record in listening.records] == [record.epoch for record in whole.epochs]
    steps_per_epoch = 10
    assert listening.steps[0] == epoch * steps_per_epoch + 1


def test_the_best_epochs_weights_survive_the_stop(tmp_path: Path) -> None:
    whole, continued = toy_trainer(LONG, labels=noisy_labels()), toy_trainer(LONG, labels=noisy_labels())
    best = whole.run(Listening()).best_epoch
    assert best < LONG.epochs
    with pytest.raises(StoppedError):
        toy_trainer(LONG, labels=noisy_labels()).run(StoppingAfter(best + 1), tmp_path / "c.safetensors")
    continued.run(Listening(), tmp_path / "c.safetensors")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(continued.model.state_dict()[name], value)


def test_a_training_stopped_after_its_last_epoch_trains_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    whole = toy_trainer().run(Listening(), path)
    assert epochs_done(path) == SPEC.epochs
    listening = Listening()
    again = toy_trainer().run(listening, path)
    assert not listening.steps
    assert values_of(again) == values_of(whole)


def test_a_checkpoint_of_another_training_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    toy_trainer().run(Listening(), path)
    other = replace(SPEC, seed=1)
    assert values_of(toy_trainer(other).run(Listening(), path)) == values_of(toy_trainer(other).run(Listening()))


def test_a_broken_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"half of a file")
    assert Checkpoint.load(path) is None
    assert epochs_done(path) == 0
    assert micro_batch_of(path) is None
    assert values_of(toy_trainer().run(Listening(), path)) == values_of(toy_trainer().run(Listening()))


def test_a_smaller_micro_batch_of_an_earlier_attempt_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(StoppedError):
        toy_trainer(micro_batch=8).run(StoppingAfter(1), path)
    assert micro_batch_of(path) == 8
    assert toy_trainer().run(Listening(), path).micro_batch == 8


def test_a_full_disk_costs_the_checkpoint_not_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("research.training.checkpoint.save_file", full)
    with pytest.warns(UserWarning, match="No space left"):
        result = toy_trainer().run(Listening(), tmp_path / "c.safetensors")
    assert len(result.epochs) == SPEC.epochs
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_holds_no_more_than_four_copies_of_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    trainer = toy_trainer(replace(LONG, patience=6), labels=noisy_labels())
    trainer.run(Listening(), path)
    weights = 4 * sum(p.numel() for p in trainer.model.parameters())
    assert path.stat().st_size < 4 * weights + 25_000
