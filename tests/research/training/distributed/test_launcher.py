"""A training that several processes share is that of one: the same losses, weights and checkpoint, and no way to hang."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist

from research.runtime import Precision, Runtime
from research.spec import ArchitectureSpec, TrainingSpec
from research.task.splits import Split
from research.task.windows import WindowDataset
from research.training.checkpoint import Checkpoint, epochs_done, micro_batch_of
from research.training.distributed.fsdp import devices_together
from research.training.distributed.launcher import DeviceProcessError, Rank, cause_of_failure, train_across_devices
from research.training.distributed.trainer import ShardedTrainer
from research.training.distributed.worker import AppliedSettings, SharedTraining, WorkerFailure, work
from research.training.trainer import Trainer, TrainingResult, TrialOver, build_model
from research.training.trial_state import DivergedError, EpochRecord
from tests.research.training.test_continue import StoppedError, StoppingAfter, values_of
from tests.research.training.test_trainer import CONTEXT, CPU, Listening, noisy_labels, toy_values

ARCHITECTURE = ArchitectureSpec(
    d_model=16,
    n_layers=2,
    n_heads=2,
    d_ff=32,
    context_length=CONTEXT,
    patch_length=4,
    patch_stride=4,
    n_features=3,
    window_norm=True,
    n_symbols=2,
)
SPLIT = Split(train=np.arange(CONTEXT - 1, 300), validation=np.arange(300, 401), test=np.arange(410, 440))
SPEC = TrainingSpec(
    learning_rate=1e-2,
    weight_decay=0.1,
    dropout=0.3,
    warmup_steps=3,
    # The last of an epoch's batches is a single window: one process has none.
    batch_size=36,
    epochs=3,
    patience=3,
    seed=0,
)
ONCE = replace(SPEC, epochs=1, warmup_steps=0)


def windows(device: torch.device) -> WindowDataset:
    return WindowDataset(toy_values(), noisy_labels(), CONTEXT, device, np.arange(440) % 2)


def windows_without_room_for_the_second(device: torch.device) -> WindowDataset:
    if dist.get_rank() == 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    return windows(device)


def alone(spec: TrainingSpec = SPEC, precision: Precision = "float32", micro_batch: int | None = None) -> Trainer:
    runtime = Runtime(device=CPU, precision=precision, micro_batch=micro_batch)
    return Trainer(build_model(ARCHITECTURE, spec, CPU), windows(CPU), SPLIT, spec, runtime)


def shared(spec: TrainingSpec = SPEC, checkpoint: Path | None = None) -> SharedTraining:
    return SharedTraining(
        architecture=ARCHITECTURE,
        training=spec,
        windows=windows,
        split=SPLIT,
        runtime=Runtime(device=CPU, threads=1),
        devices=(CPU, CPU),
        checkpoint=checkpoint,
    )


def require_alike(found: TrainingResult, expected: TrainingResult) -> None:
    """Up to the order of sums."""
    np.testing.assert_allclose(values_of(found), values_of(expected), rtol=1e-4)
    assert found.best_epoch == expected.best_epoch
    np.testing.assert_allclose(found.val_logits, expected.val_logits, atol=1e-4)
    assert found.weights.keys() == expected.weights.keys()
    for name, value in expected.weights.items():
        mine, theirs = found.weights[name], value
        if name.endswith("qkv.bias"):
            # A key's bias adds the same to all scores of a query: its gradient is rounding, which AdamW scales up.
            mine, theirs = (torch.cat([one[:16], one[32:]]) for one in (mine, theirs))
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def by_a_group_of_one(folder: Path, precision: Precision = "float32") -> TrainingResult:
    """Within this process."""
    with devices_together(CPU, 0, 1, folder / "meeting") as mesh:
        model = build_model(ARCHITECTURE, SPEC, CPU)
        runtime = Runtime(device=CPU, precision=precision)
        trainer = ShardedTrainer(model, windows(CPU), SPLIT, SPEC, runtime, mesh)
        (found,) = trainer.run_all([Listening()], [folder / "c.safetensors"])
    assert isinstance(found, TrainingResult)
    return found


def test_a_group_of_one_trains_as_one_device_does(tmp_path: Path) -> None:
    require_alike(by_a_group_of_one(tmp_path), alone().run(Listening()))
    assert epochs_done(tmp_path / "c.safetensors") == SPEC.epochs


def test_products_are_as_short_as_asked_for(tmp_path: Path) -> None:
    found, short, plain = by_a_group_of_one(tmp_path, "bfloat16"), alone(precision="bfloat16"), alone()
    losses = [result.epochs[0].train_loss for result in (found, short.run(Listening()), plain.run(Listening()))]
    # A rounding that falls the other way moves a short number by a thousandth of itself.
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert losses[0] != pytest.approx(losses[2], rel=1e-6)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, Listening, list[AppliedSettings]]:
    listening: Listening = Listening()
    built: list[AppliedSettings] = []
    path = tmp_path_factory.mktemp("together") / "c.safetensors"
    return train_across_devices(shared(checkpoint=path), listening, built.append), listening, built


@pytest.mark.slow
def test_two_processes_train_as_one_device_does(together: tuple[TrainingResult, Listening, list[AppliedSettings]]) -> None:
    found, listening, built = together
    expected = alone().run(Listening())
    assert len(SPLIT.train) % SPEC.batch_size == 1
    require_alike(found, expected)
    assert (found.devices, found.micro_batch, found.side_by_side) == (2, 18, 1)
    assert listening.records == found.epochs
    assert listening.steps[0] == 1
    (in_use,) = built
    assert in_use.parameters == sum(p.numel() for p in alone().model.parameters())
    assert in_use.settings["learning_rate"] == SPEC.learning_rate
    assert in_use.settings["d_ff"] == ARCHITECTURE.d_ff
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_bit_or_on_another_number_of_devices(
    together: tuple[TrainingResult, Listening, list[AppliedSettings]], tmp_path: Path
) -> None:
    whole, *_ = together
    path, copy = tmp_path / "c.safetensors", tmp_path / "copy.safetensors"
    with pytest.raises(StoppedError):
        train_across_devices(shared(checkpoint=path), StoppingAfter(1))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert (epochs_done(path), micro_batch_of(path)) == (1, 18)
    copy.write_bytes(path.read_bytes())

    listening = Listening()
    found = train_across_devices(shared(checkpoint=path), listening)
    assert values_of(found) == values_of(whole)
    assert np.array_equal(found.val_logits, whole.val_logits)
    assert all(torch.equal(found.weights[name], value) for name, value in whole.weights.items())
    assert [record.epoch for record in listening.records] == [1, 2, 3]
    assert listening.steps[0] > len(SPLIT.train) // SPEC.batch_size

    single = alone()
    require_alike(single.run(Listening(), copy), whole)
    assert single.micro_batch == 18


@pytest.mark.slow
def test_a_checkpoint_of_one_device_goes_on_on_two(
    together: tuple[TrainingResult, Listening, list[AppliedSettings]], tmp_path: Path
) -> None:
    whole, *_ = together
    path = tmp_path / "c.safetensors"
    with pytest.raises(StoppedError):
        alone(micro_batch=5).run(StoppingAfter(2), path)
    found = train_across_devices(shared(checkpoint=path), Listening())
    require_alike(found, whole)
    assert found.micro_batch == micro_batch_of(path) == 18, "a process takes its whole share in one pass"
    written = Checkpoint.load(path)
    assert written is not None
    assert written.part("model").keys() == whole.weights.keys()


class Acting(Listening):
    """Does something when the first epoch has ended."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self.act = act

    def on_epoch(self, record: EpochRecord) -> None:
        super().on_epoch(record)
        self.act()


def over() -> None:
    raise TrialOver("fell behind")


def stop() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(("act", "ends_with"), [(over, TrialOver), (stop, KeyboardInterrupt)])
def test_what_stops_the_leader_stops_all(act: Callable[[], None], ends_with: type[BaseException]) -> None:
    began = time.monotonic()
    with pytest.raises(ends_with):
        train_across_devices(shared(), Acting(act))
    assert time.monotonic() - began < 60
    assert not psutil.Process().children()[1:], "only multiprocessing's own resource tracker may be left"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_others_and_is_the_reason(rank: int) -> None:
    def kill() -> None:
        ranks = sorted(multiprocessing.active_children(), key=lambda process: process.pid or 0)
        assert len(ranks) == 2
        os.kill(ranks[rank].pid or 0, signal.SIGKILL)

    began = time.monotonic()
    with pytest.raises(DeviceProcessError, match=f"process {rank + 1} of 2 on cpu was killed by signal 9"):
        train_across_devices(shared(), Acting(kill))
    assert time.monotonic() - began < 60
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("last", "raised", "reason"),
    [
        (None, DeviceProcessError, "the second was killed by signal 9"),
        (
            WorkerFailure("OutOfMemoryError: no room", of_memory=True),
            torch.OutOfMemoryError,
            "the second: OutOfMemoryError: no room",
        ),
        (WorkerFailure("ValueError: wrong", of_memory=False), DeviceProcessError, "the first: RuntimeError: connection closed"),
    ],
)
def test_who_only_waited_for_the_one_that_failed_is_not_the_reason(
    last: WorkerFailure | None, raised: type[Exception], reason: str
) -> None:
    ours, theirs = multiprocessing.Pipe()
    if last is not None:
        theirs.send(last)
    theirs.close()
    first, _ = multiprocessing.Pipe()
    ranks = {
        first: Rank(MagicMock(exitcode=1), first, "the first"),
        ours: Rank(MagicMock(exitcode=-9), ours, "the second"),
    }
    found = cause_of_failure(ranks, first, WorkerFailure("RuntimeError: connection closed", of_memory=False))
    assert type(found) is raised
    assert str(found) == reason
    assert all(rank.process.kill.called for rank in ranks.values())  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_device_without_room_is_told_as_such() -> None:
    tight = replace(shared(ONCE), windows=windows_without_room_for_the_second)
    with pytest.raises(torch.OutOfMemoryError, match=r"process 2 of 2 on cpu: .*Tried to allocate 20.00 GiB"):
        train_across_devices(tight, Listening())


@pytest.mark.slow
def test_an_exploding_loss_diverges() -> None:
    with pytest.raises(DivergedError) as diverged:
        train_across_devices(shared(replace(SPEC, learning_rate=1e9, gradient_clip=1e9)), Listening())
    assert diverged.value.epoch == 1


@pytest.mark.slow
def test_what_is_in_use_can_be_refused_before_the_first_step() -> None:
    def refuse(_: AppliedSettings) -> None:
        raise ValueError("not what was declared")

    listening = Listening()
    with pytest.raises(ValueError, match="not what was declared"):
        train_across_devices(shared(), listening, refuse)
    assert not listening.steps


def aborting_at_exit(meeting: Path, pipe: Connection) -> None:
    """A process of the group; a thread of gloo's that still works aborts it where Python is taken down."""
    atexit.register(os.abort)
    work(0, meeting, pipe)


def test_a_process_leaves_without_waiting_for_what_threads_do_meanwhile(tmp_path: Path) -> None:
    mp = multiprocessing.get_context("spawn")
    ours, theirs = mp.Pipe()
    process = mp.Process(target=aborting_at_exit, args=(tmp_path / "meeting", theirs))
    process.start()
    theirs.close()
    ours.close()
    process.join()
    assert process.exitcode == 0
