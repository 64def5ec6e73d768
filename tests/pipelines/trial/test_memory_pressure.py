"""Memory that runs out halves the micro-batch, not the batch; what does not fit at all is infeasible, not crashed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pipelines.trial.placement
import pipelines.trial.trial
from pipelines.sweep.state import Sweep
from pipelines.trial.placement import micro_batch_for
from research.spec import ArchitectureSpec, TrialSpec
from research.tracking import schema
from research.training.trainer import RunningTrial, Trainer
from tests.conftest import start_sweep
from tests.pipelines.trial.test_trial import run_of, spec_of, trained
from tests.support.small_sweeps import checkpoints_in, copy_of, options, worker_of


class Pressure:
    """Memory for `room` windows at a time, and for any number before epoch `begins`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, begins: int = 1):
        self.epochs: list[tuple[int, int]] = []
        """Epoch and micro-batch of every start of an epoch."""
        self.batches: set[int] = set()
        """Sizes of the optimizer steps that were made, the last of an epoch left out."""
        self.steps = 0
        real_epoch, real_step = Trainer._train_epoch, Trainer._take_step

        def epoch(trainer: Trainer, active: list[RunningTrial]) -> object:
            self.epochs.append((active[0].state.epoch, trainer.micro_batch))
            return real_epoch(trainer, active)

        def step(trainer: Trainer, rows: torch.Tensor) -> object:
            if self.epochs[-1][0] >= begins and trainer.micro_batch > room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            self.steps += 1
            self.batches.add(len(rows))
            return real_step(trainer, rows)

        monkeypatch.setattr(Trainer, "_train_epoch", epoch)
        monkeypatch.setattr(Trainer, "_take_step", step)


@pytest.fixture(scope="module")
def sweep(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return start_sweep(options(copy_of(migrated_store, tmp_path_factory.mktemp("memory")), epochs=2))


def even(sweep: Sweep, **changes: object) -> TrialSpec:
    """Without dropout, whose draws depend on the size of the micro-batch."""
    return spec_of(sweep, **{"batch_size": 256, "dropout": 0.0, "warmup_steps": 3, **changes})


def test_running_out_of_memory_goes_on_from_the_checkpoint_with_half_the_micro_batch(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = Pressure(monkeypatch, room=256)
    reference = trained(sweep, even(sweep))
    monkeypatch.undo()
    tight = Pressure(monkeypatch, room=64, begins=2)
    finished = trained(sweep, even(sweep))

    assert tight.epochs == [(1, 256), (2, 256), (2, 128), (2, 64)]
    assert (tight.steps, tight.batches) == (roomy.steps, roomy.batches)
    assert finished.val_loss == pytest.approx(reference.val_loss, rel=1e-4)
    run = run_of(sweep, finished)
    assert (finished.outcome, run.info.status) == ("complete", "FINISHED")
    assert run.data.metrics["micro_batch"] == 64
    assert run.data.params["batch_size"] == "256"
    assert run.data.tags[schema.HALVED].startswith("micro-batch 64 after: CUDA out of memory")
    curve = sweep.context.store.client.get_metric_history(finished.run_id, "epoch/val_loss")
    assert [point.step for point in curve] == [1, 2]


def test_half_of_what_did_not_fit_is_half_of_the_checkpoints_micro_batch(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: object) -> bool:
        raise KeyboardInterrupt

    spec = even(sweep, seed=5)
    with pytest.raises(KeyboardInterrupt):
        trained(sweep, spec, stop, worker=worker_of(sweep, micro_batch=64))
    tight = Pressure(monkeypatch, room=32)
    finished = trained(sweep, spec)
    assert tight.epochs == [(2, 64), (2, 32)]
    assert run_of(sweep, finished).data.tags[schema.HALVED].startswith("micro-batch 32 after")


def test_without_room_for_one_window_a_trial_is_infeasible(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    tight = Pressure(monkeypatch, room=0, begins=2)
    finished = trained(sweep, even(sweep, batch_size=64))
    run = run_of(sweep, finished)
    assert (finished.outcome, run.info.status) == ("infeasible", "FAILED")
    assert tight.epochs == [(1, 64), *((2, micro_batch) for micro_batch in (64, 32, 16, 8, 4, 2, 1))]
    assert run.data.tags["reason"].startswith("out of memory with the smallest micro-batch: ")
    assert "val_loss" not in run.data.metrics
    assert checkpoints_in(sweep.options.store) == []


def test_an_architecture_that_the_plan_refuses_is_infeasible_without_being_built(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*_: object) -> None:
        raise AssertionError("it was built")

    monkeypatch.setattr(pipelines.trial.placement, "available_memory", lambda _: 1000)
    monkeypatch.setattr(pipelines.trial.trial, "build_model", built)
    finished = trained(sweep, even(sweep))
    run = run_of(sweep, finished)
    assert (finished.outcome, run.info.status) == ("infeasible", "FAILED")
    assert "GB one window at a time" in run.data.tags["reason"]


def test_a_worker_plans_with_its_share_of_the_memory(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[int] = []

    def choose(architecture: ArchitectureSpec, batch_size: int, free: int, device: torch.device, *, optimizer: str) -> int:
        planned.append(free)
        return batch_size

    monkeypatch.setattr(pipelines.trial.placement, "available_memory", lambda _: 1000)
    monkeypatch.setattr(pipelines.trial.placement, "choose_micro_batch", choose)
    micro_batch_for(even(sweep), replace(worker_of(sweep).resources, memory_share=0.25))
    assert planned == [250]
