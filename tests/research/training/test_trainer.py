"""A spec gives one result to the bit, learns what can be learned, keeps its best epoch and never sees validation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from research.errors import InputError
from research.runtime import Runtime
from research.spec import ArchitectureSpec, TrainingSpec
from research.task.splits import Split
from research.task.windows import WindowDataset, predict
from research.training.trainer import Trainer, TrainingResult, build_model
from research.training.trial_state import DivergedError, EpochRecord

CPU = torch.device("cpu")
CONTEXT = 12
ARCHITECTURE = ArchitectureSpec(
    d_model=16, n_layers=1, n_heads=2, d_ff=32, context_length=CONTEXT, patch_length=4, patch_stride=4, n_features=3
)
SPLIT = Split(train=np.arange(CONTEXT - 1, 300), validation=np.arange(300, 400), test=np.arange(400, 440))
SPEC = TrainingSpec(
    learning_rate=1e-2,
    weight_decay=0.01,
    dropout=0.0,
    warmup_steps=3,
    batch_size=32,
    epochs=3,
    patience=100,
    seed=0,
)


@dataclass
class Listening:
    records: list[EpochRecord] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def on_step(self, step: int) -> None:
        self.steps.append(step)

    def on_epoch(self, record: EpochRecord) -> None:
        self.records.append(record)


def toy_values(seed: int = 0) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal((440, 3))
    values[:, 0] += np.sign(values[:, 0])  # A gap between the two classes of `newest_day_labels`.
    return values.astype(np.float32)


def newest_day_labels(values: NDArray[np.float32]) -> NDArray[np.int8]:
    """A rule that can be learned: the sign of the first feature on the newest day."""
    return (values[:, 0] > 0).astype(np.int8)


def noisy_labels() -> NDArray[np.int8]:
    """The rule with a third of the labels turned: learned first, then training only gets worse on other rows."""
    turned = np.random.default_rng(1).random(440) < 0.3
    return np.where(turned, 1 - newest_day_labels(toy_values()), newest_day_labels(toy_values())).astype(np.int8)


def toy_trainer(
    spec: TrainingSpec = SPEC,
    values: NDArray[np.float32] | None = None,
    labels: NDArray[np.int8] | None = None,
    micro_batch: int | None = None,
) -> Trainer:
    values = toy_values() if values is None else values
    labels = newest_day_labels(values) if labels is None else labels
    dataset = WindowDataset(values, labels, CONTEXT, CPU)
    model = build_model(ARCHITECTURE, spec, CPU)
    return Trainer(model, dataset, SPLIT, spec, Runtime(device=CPU, micro_batch=micro_batch))


def trained(spec: TrainingSpec = SPEC, **rest) -> TrainingResult:
    return toy_trainer(spec, **rest).run(Listening())


def losses(result: TrainingResult) -> list[tuple[float, float]]:
    return [(record.train_loss, record.val_loss) for record in result.epochs]


def test_what_the_newest_day_decides_is_learned() -> None:
    result = trained(replace(SPEC, epochs=12))
    assert result.val_loss < 0.1
    assert ((result.val_logits > 0) == newest_day_labels(toy_values())[SPLIT.validation]).mean() > 0.95


def test_the_same_spec_gives_the_same_result_to_the_bit() -> None:
    spec = replace(SPEC, dropout=0.3)
    first = trained(spec)
    torch.rand(7)  # Whatever else draws random numbers in between.
    trainer = toy_trainer(spec)
    torch.rand(7)
    again = trainer.run(Listening())
    assert losses(again) == losses(first)
    assert np.array_equal(again.val_logits, first.val_logits)


def test_another_seed_gives_another_result() -> None:
    assert trained(replace(SPEC, seed=1)).val_loss != trained().val_loss


@pytest.mark.parametrize("micro_batch", [7, 1, 31])
def test_micro_batches_drop_what_the_full_batch_drops(micro_batch: int) -> None:
    whole, parts = (trained(replace(SPEC, dropout=0.3), micro_batch=size) for size in (None, micro_batch))
    assert parts.val_loss == pytest.approx(whole.val_loss, abs=1e-5)


def test_the_seed_decides_the_order_of_the_data() -> None:
    first, second = toy_trainer(), toy_trainer(replace(SPEC, seed=1))
    second.model.load_state_dict(first.model.state_dict())
    assert losses(first.run(Listening())) != losses(second.run(Listening()))


@pytest.mark.parametrize("micro_batch", [7, 1, 31])
def test_micro_batches_give_the_full_batch_result(micro_batch: int) -> None:
    whole, parts = trained(), trained(micro_batch=micro_batch)
    assert parts.val_loss == pytest.approx(whole.val_loss, abs=1e-5)
    for in_parts, in_whole in zip(parts.epochs, whole.epochs, strict=True):
        assert in_parts.train_loss == pytest.approx(in_whole.train_loss, abs=1e-5)
        assert in_parts.gradient_norm == pytest.approx(in_whole.gradient_norm, rel=1e-3)


def test_a_micro_batch_larger_than_the_batch_changes_nothing() -> None:
    assert losses(trained(micro_batch=1000)) == losses(trained())


def test_early_stopping_keeps_the_best_epochs_weights() -> None:
    spec = replace(SPEC, learning_rate=2e-3, epochs=40, patience=4)
    trainer = toy_trainer(spec, labels=noisy_labels())
    listener = Listening()
    result = trainer.run(listener)
    curve = [record.val_loss for record in listener.records]

    assert result.best_epoch > 1
    assert len(curve) == result.best_epoch + spec.patience < spec.epochs
    assert result.val_loss == min(curve) < curve[-1]
    assert result.best_epoch == curve.index(min(curve)) + 1
    assert np.array_equal(predict(trainer.model, trainer.dataset, trainer.dataset.rows(SPLIT.validation)), result.val_logits)


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_where_the_full_curve_first_stalls(patience: int) -> None:
    spec = replace(SPEC, learning_rate=2e-3, epochs=20)
    curve = losses(trained(spec, labels=noisy_labels()))
    val = [val_loss for _, val_loss in curve]
    stalled = next(n for n in range(patience + 1, 21) if min(val[:n]) == min(val[: n - patience]))
    assert losses(trained(replace(spec, patience=patience), labels=noisy_labels())) == curve[:stalled]


def test_validation_loss_is_that_of_the_returned_logits() -> None:
    result = trained()
    signed = np.where(newest_day_labels(toy_values())[SPLIT.validation] == 1, 1, -1)
    assert result.val_loss == pytest.approx(np.log1p(np.exp(-signed * result.val_logits)).mean())


def test_prediction_is_the_same_for_any_number_of_rows_at_once() -> None:
    """More rows than one evaluation batch holds, with a dropout that prediction must not apply."""
    trainer = toy_trainer(replace(SPEC, dropout=0.5))
    nn.init.normal_(trainer.model.head.weight)
    rows = torch.from_numpy(np.tile(SPLIT.validation, 11))
    np.testing.assert_allclose(
        predict(trainer.model, trainer.dataset, rows),
        np.tile(predict(trainer.model, trainer.dataset, trainer.dataset.rows(SPLIT.validation)), 11),
        atol=1e-5,
    )


def test_the_listener_gets_every_epoch_as_it_ends() -> None:
    listener = Listening()
    result = toy_trainer().run(listener)
    assert listener.records == result.epochs
    assert [record.epoch for record in listener.records] == [1, 2, 3]
    assert all(record.seconds > 0 and record.gradient_norm > 0 for record in listener.records)
    assert result.samples_per_second > 0
    assert result.peak_memory_bytes > 0


def test_the_rate_follows_the_schedule_over_all_epochs() -> None:
    trainer = toy_trainer()
    assert trainer.states[0].steps_per_epoch == 10  # 289 windows in batches of 32, the last one short.
    rates = [record.learning_rate for record in trainer.run(Listening()).epochs]
    assert rates == [SPEC.learning_rate * trainer.states[0].schedule.share_at(step) for step in (9, 19, 29)]


@pytest.mark.filterwarnings("ignore")
def test_an_absurd_learning_rate_diverges_by_name() -> None:
    listener = Listening()
    with pytest.raises(DivergedError, match=r"loss is .* in epoch 1") as error:
        toy_trainer(replace(SPEC, learning_rate=1e6, warmup_steps=0)).run(listener)
    assert (error.value.epoch, listener.records) == (1, [])


def test_a_loss_that_is_no_number_diverges_in_its_epoch() -> None:
    class Poison(Listening):
        def on_epoch(self, record: EpochRecord) -> None:
            super().on_epoch(record)
            if record.epoch == 2:
                trainer.dataset.values_RF[250] = float("nan")

    listener = Poison()
    trainer = toy_trainer()
    with pytest.raises(DivergedError, match="training loss is nan in epoch 3") as error:
        trainer.run(listener)
    assert (error.value.epoch, len(listener.records)) == (3, 2)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_validation_loss_that_is_no_number_diverges() -> None:
    values = toy_values()
    values[350] = np.nan
    with pytest.raises(DivergedError, match="validation loss is nan in epoch 1"):
        trained(values=values)


def test_applied_is_what_the_spec_asked_for() -> None:
    spec = replace(SPEC, dropout=0.25, batch_size=20, warmup_steps=7, seed=5, patience=9, weight_decay=0.125, gradient_clip=0.5)
    assert toy_trainer(spec).applied().items() <= asdict(spec).items()


def test_applied_reads_the_objects_not_the_spec() -> None:
    trainer = toy_trainer()
    (state,) = trainer.states
    state.optimizer.param_groups[0]["weight_decay"] = 0.77
    state.schedule.peak = 0.5
    state.schedule.warmup_steps = 2
    state.schedule.total_steps = 50
    trainer.batch_size = 16
    trainer.model.dropout.set([0.4])
    expected = {"weight_decay": 0.77, "learning_rate": 0.5, "warmup_steps": 2, "epochs": 5, "batch_size": 16, "dropout": 0.4}
    assert expected.items() <= trainer.applied().items()


@pytest.mark.parametrize(
    "changed",
    [
        {"learning_rate": 3e-3},
        {"weight_decay": 0.5},
        {"dropout": 0.2},
        {"warmup_steps": 12},
        {"batch_size": 24},
        {"gradient_clip": 0.01},
        {"epochs": 4},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_changes_the_result(changed: dict[str, float]) -> None:
    """A searched setting that reaches nothing would leave the curve as it was."""
    assert losses(trained(replace(SPEC, **changed)))[2] != losses(trained())[2]


@pytest.mark.parametrize("warmup_steps", [30, 31, 1000])
def test_warm_up_longer_than_training_is_refused(warmup_steps: int) -> None:
    with pytest.raises(InputError, match=f"warmup_steps={warmup_steps}: training has only 30 steps"):
        toy_trainer(replace(SPEC, warmup_steps=warmup_steps))
    toy_trainer(replace(SPEC, warmup_steps=29))


def test_validation_and_test_rows_are_never_trained_on() -> None:
    values = toy_values()
    labels = newest_day_labels(values)
    ordinary = trained(labels=labels)

    flipped = labels.copy()
    flipped[300:] = 1 - flipped[300:]
    moved = values.copy()
    moved[300:] += 1
    for other in (trained(labels=flipped), trained(values=moved, labels=labels)):
        assert [record.train_loss for record in other.epochs] == [record.train_loss for record in ordinary.epochs]
        assert [record.val_loss for record in other.epochs] != [record.val_loss for record in ordinary.epochs]


def test_test_rows_change_nothing_at_all() -> None:
    values = toy_values()
    labels = newest_day_labels(values)
    changed_values, changed_labels = values.copy(), labels.copy()
    changed_values[400:] += 1
    changed_labels[400:] = 1 - changed_labels[400:]
    assert losses(trained(values=changed_values, labels=changed_labels)) == losses(trained(values=values, labels=labels))


def test_every_training_row_is_seen_in_every_epoch() -> None:
    trainer = toy_trainer(replace(SPEC, epochs=2))
    seen: list[torch.Tensor] = []
    gather = trainer.dataset.gather

    def counted(rows_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(rows_B)
        return gather(rows_B)

    trainer.dataset.gather = counted  # type: ignore[method-assign]
    trainer.run(Listening())
    rows, counts = torch.cat(seen).unique(return_counts=True)
    assert rows.tolist() == [*SPLIT.train, *SPLIT.validation]
    assert (counts == 2).all()


def test_every_epoch_trains_with_dropout_and_evaluates_without() -> None:
    trainer = toy_trainer()
    modes: list[tuple[bool, bool]] = []
    trainer.model.register_forward_pre_hook(lambda model, _: modes.append((torch.is_grad_enabled(), model.training)))
    trainer.run(Listening())
    assert modes == SPEC.epochs * [*trainer.states[0].steps_per_epoch * [(True, True)], (False, False)]


def test_a_model_depends_on_its_seed_alone() -> None:
    first, other = build_model(ARCHITECTURE, SPEC, CPU), build_model(ARCHITECTURE, replace(SPEC, seed=1), CPU)
    torch.rand(3)
    again = build_model(ARCHITECTURE, replace(SPEC, learning_rate=0.5), CPU)
    assert torch.equal(first.embedding.weight, again.embedding.weight)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


def test_an_instrument_is_learned_where_it_alone_tells_the_label() -> None:
    """Noise as features, and one instrument that always rises beside one that never does."""
    symbols = np.random.default_rng(2).integers(0, 2, 440)
    dataset = WindowDataset(toy_values(), symbols.astype(np.int8), CONTEXT, CPU, symbols)
    spec = replace(SPEC, epochs=8)
    knowing, blind = (
        Trainer(build_model(one, spec, CPU), dataset, SPLIT, spec, Runtime(device=CPU)).run(Listening()).val_loss
        for one in (replace(ARCHITECTURE, n_symbols=2), ARCHITECTURE)
    )
    assert knowing < 0.1
    assert blind > 0.6
