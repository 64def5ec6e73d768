"""A trial that does not fit one device is trained on the fewest of its worker's that hold it, and a plan says so."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

import pipelines.trial.placement
import pipelines.trial.trial
from pipelines.executors import choose
from pipelines.executors.choose import Layout, executor_for, layout_for
from pipelines.executors.device_groups import devices_to_share, group_size, groups_of
from pipelines.executors.processes import Processes
from pipelines.plan.costs import plan_rows
from pipelines.sweep import messages, setup
from pipelines.sweep.state import Sweep
from pipelines.trial.context import WorkerResources
from pipelines.trial.job import Job
from pipelines.trial.optimizer_choice import fitting_architectures, optimizer_for
from pipelines.trial.placement import devices_for
from research.errors import InputError
from research.spec import ArchitectureSpec, TrialSpec
from research.tracking import schema
from research.training.distributed.fsdp import shard_memory
from research.training.distributed.worker import SharedTraining
from research.training.memory_estimate import FITTING_SHARE, choose_micro_batch, peak_memory
from research.training.trial_state import EpochRecord
from tests.conftest import start_sweep
from tests.pipelines.plan.test_plan import CPU, CUDA, GB, ROOMY, TWO_BILLION, WORK, Clock, text_of
from tests.pipelines.trial.test_trial import run_of, spec_of, trained
from tests.support.small_sweeps import checkpoints_in, copy_of, options, worker_of

EIGHT = tuple(torch.device("cuda", index) for index in range(8))
SMALL = ArchitectureSpec(d_model=16, n_layers=2, n_heads=2, d_ff=32)
LARGE = max(TWO_BILLION, key=lambda a: a.d_model)
EIGHTY = 80 * GB
FOR_TWO = int(shard_memory(LARGE, 256, CUDA, 2) / FITTING_SHARE) + 1
"""Bytes on each device with which two hold the large one and one does not."""


@pytest.fixture(scope="module")
def sweep(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return start_sweep(options(copy_of(migrated_store, tmp_path_factory.mktemp("spread")), epochs=2))


def even(sweep: Sweep, **changes: object) -> TrialSpec:
    return spec_of(sweep, **{"batch_size": 256, "warmup_steps": 3, **changes})


def test_a_group_is_as_large_as_the_largest_training_that_several_devices_hold() -> None:
    assert choose_micro_batch(LARGE, 256, FOR_TWO, CUDA) is None
    assert group_size([SMALL, LARGE], 256, FOR_TWO, CUDA, devices=8) == 2
    assert group_size([SMALL], 256, FOR_TWO, CUDA, devices=8) == 1
    assert group_size([SMALL, LARGE], 256, GB // 2, CUDA, devices=8) == 1, "what no number of devices holds asks for none"
    assert groups_of(EIGHT, 3) == (EIGHT[:3], EIGHT[3:6])
    assert groups_of(EIGHT, 1) == tuple((one,) for one in EIGHT)


def test_adamw_on_several_devices_goes_before_low_memory_on_one() -> None:
    assert optimizer_for("auto", TWO_BILLION, (64, 256), CUDA, 20 * GB) == "adafactor"
    assert optimizer_for("auto", TWO_BILLION, (64, 256), CUDA, 20 * GB, devices=8) == "adamw"
    assert not fitting_architectures([LARGE], (64, 256), CUDA, FOR_TWO, "adamw")
    assert fitting_architectures([LARGE], (64, 256), CUDA, FOR_TWO, "adamw", devices=2) == [LARGE]


def test_a_plan_says_how_many_devices_a_trial_needs() -> None:
    short = replace(ROOMY, device=CUDA, memory=FOR_TWO)
    (alone,) = plan_rows([LARGE], WORK, short, Clock())
    assert (alone.obstacles, alone.devices) == (("memory",), 1)
    clock = Clock()
    (row,) = plan_rows([LARGE], WORK, replace(short, devices=8), clock)
    assert (row.obstacles, row.devices, row.micro_batch, row.accumulation) == ((), 2, 128, 1)
    assert row.peak_memory == shard_memory(LARGE, 256, CUDA, 2)
    assert clock.asked == [(32, 32)], "each device has half of the smallest batch"
    told = text_of([row], budget="2B")
    assert "yes on 2 devices" in told
    assert "1 of 1 architectures are trained on 2 devices together" in told
    assert "do not fit" not in told
    assert "make sweep BUDGET=2B" in told


def test_low_memory_is_not_spread() -> None:
    work = replace(WORK, optimizer="adafactor")
    (row,) = plan_rows([LARGE], work, replace(ROOMY, device=CUDA, memory=GB, devices=8), Clock())
    assert (row.obstacles, row.devices) == (("memory",), 1)


def layout_on_eight(
    folder: Path, monkeypatch: pytest.MonkeyPatch, architectures: list[ArchitectureSpec], **changes: object
) -> Layout:
    monkeypatch.setattr("pipelines.executors.device_groups.devices_like", lambda _: EIGHT)
    monkeypatch.setattr(choose, "devices_like", lambda _: EIGHT)
    monkeypatch.setattr(choose, "available_memory", lambda _: FOR_TWO)
    asked = options(folder, **{"workers": None, "stack": "off", "precision": "float32", **changes})
    return layout_for(asked, CUDA, architectures, trials_left=20)


def test_workers_get_groups_where_some_shape_needs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = layout_on_eight(tmp_path, monkeypatch, [SMALL, LARGE])
    assert pairs.groups == (EIGHT[:2], EIGHT[2:4], EIGHT[4:6], EIGHT[6:])
    assert layout_on_eight(tmp_path, monkeypatch, [SMALL]).groups == tuple((one,) for one in EIGHT)
    assert layout_on_eight(tmp_path, monkeypatch, [SMALL, LARGE], workers=1).groups == (EIGHT[:2],)
    for one_device in ({"ray": "auto"}, {"micro_batch": 8}):
        assert layout_on_eight(tmp_path, monkeypatch, [LARGE], **one_device).workers == 8
        assert devices_to_share(options(tmp_path, **one_device), CUDA) == (CUDA,)


def test_the_layout_is_said(sweep: Sweep) -> None:
    def said(layout: Layout) -> str:
        page = StringIO()
        messages.print_history(sweep, layout, Console(width=200, file=page))
        return page.getvalue()

    assert "each on 2 devices (a trial that fits one is trained on the first)" in said(
        Layout(groups=(EIGHT[:2], EIGHT[2:4]), threads=1)
    )
    assert "devices" not in said(Layout(groups=((CPU,),), threads=1))


def test_every_worker_knows_its_group(sweep: Sweep) -> None:
    executor = executor_for(sweep.options, sweep.context, sweep.runtime, Layout(groups=((CPU, CPU), (CPU, CPU)), threads=1))
    assert isinstance(executor, Processes)
    executor.submit((Job(number=0, spec=even(sweep)),))
    (worker,) = [one for one in executor._workers if one is not None]
    executor.close()
    assert worker.resources.devices == (CPU, CPU)
    assert not worker.process.daemon, "a daemon may not start the processes of a group"


def test_a_sweep_does_not_refuse_what_its_devices_hold_together(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = replace(sweep.runtime, device=CUDA)
    monkeypatch.setattr(setup, "available_memory", lambda _: FOR_TWO)
    monkeypatch.setattr(setup, "devices_to_share", lambda *_: EIGHT[:2])
    assert setup._fitting_shapes([LARGE], sweep.options, runtime, "adamw") == [LARGE]
    monkeypatch.setattr(setup, "available_memory", lambda _: FOR_TWO // 10)
    with pytest.raises(InputError, match="are free on each of 2 devices"):
        setup._fitting_shapes([LARGE], sweep.options, runtime, "adamw")


def test_a_trial_takes_the_fewest_devices_that_hold_it(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(even(sweep), architecture=LARGE)
    worker = WorkerResources(runtime=replace(sweep.runtime, device=EIGHT[0]), devices=EIGHT)
    monkeypatch.setattr(pipelines.trial.placement, "available_memory", lambda _: FOR_TWO)
    assert devices_for(spec, worker) == 2
    assert devices_for(spec, replace(worker, devices=EIGHT[:1])) == 1
    assert devices_for(spec, replace(worker, devices=EIGHT[:2], memory_share=0.5)) == 1, "two do not hold it"
    assert devices_for(spec, replace(worker, memory_share=0.5)) > 2
    low = replace(spec, training=replace(spec.training, optimizer="adafactor"))
    assert devices_for(low, worker) == 1
    room = {device: 1000 * GB if device == EIGHT[0] else FOR_TWO for device in EIGHT}
    monkeypatch.setattr(pipelines.trial.placement, "available_memory", lambda device: room[device])
    assert devices_for(spec, worker) == 1, "it fits its own"


def test_running_out_of_memory_takes_more_devices_and_ends_as_infeasible(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def without_room(shared: SharedTraining, *_: object) -> None:
        taken.append(len(shared.devices))
        raise torch.OutOfMemoryError("process 1 of 2 on cuda:0: CUDA out of memory")

    monkeypatch.setattr(pipelines.trial.trial, "devices_for", lambda *_: 2)
    monkeypatch.setattr(pipelines.trial.trial, "train_across_devices", without_room)
    finished = trained(sweep, even(sweep), worker=worker_of(sweep, devices=5))
    assert taken == [2, 4, 5]
    assert (finished.outcome, finished.reason[:27]) == ("infeasible", "out of memory on 5 devices:")
    tags = run_of(sweep, finished).data.tags
    assert tags[schema.DEVICES] == "5"
    assert tags[schema.HALVED].startswith("micro-batch 52 on 5 devices after: process 1 of 2")


@pytest.mark.slow
def test_a_trial_too_large_for_one_device_completes_on_two(
    migrated_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"budget": "200K", "layers": (24, 32), "windows": "64", "allow_thin_evidence": True, "epochs": 1}
    sweep = start_sweep(options(copy_of(migrated_store, tmp_path), **few))
    a = max(sweep.architectures, key=lambda a: a.d_model * a.d_ff)
    spec = spec_of(sweep, batch_size=2, epochs=1, warmup_steps=0)
    spec = replace(spec, architecture=a)
    tight = int(shard_memory(a, 2, CPU, 2) / FITTING_SHARE) + 1
    assert peak_memory(a, 1, CPU) > FITTING_SHARE * tight
    monkeypatch.setattr(pipelines.trial.placement, "available_memory", lambda _: tight)
    finished = trained(sweep, spec, worker=worker_of(sweep, devices=2))
    run = run_of(sweep, finished)
    assert (finished.outcome, run.info.status) == ("complete", "FINISHED"), finished.reason
    assert run.data.tags[schema.DEVICES] == "2"
    metrics = run.data.metrics
    assert (metrics["devices"], metrics["micro_batch"], metrics["side_by_side"], metrics["epochs_run"]) == (2, 1, 1, 1)
    assert metrics["epoch/val_loss"] == metrics["val_loss"] == finished.val_loss
    rate = metrics["samples_per_second"] * metrics["flops_per_sample"]
    assert metrics["gemm_share"] == pytest.approx(rate / (2 * worker_of(sweep).gemm_rate))
    assert checkpoints_in(sweep.options.store) == []

    monkeypatch.undo()
    alone = trained(sweep, spec, worker=worker_of(sweep, devices=2))
    assert alone.val_loss == pytest.approx(finished.val_loss, rel=1e-4)
    assert schema.DEVICES not in run_of(sweep, alone).data.tags
    assert run_of(sweep, alone).data.metrics["devices"] == 1


@pytest.mark.slow
def test_a_killed_process_of_a_group_is_a_crash_with_a_reason(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(_: EpochRecord) -> bool:
        os.kill(max(process.pid or 0 for process in multiprocessing.active_children()), signal.SIGKILL)
        return True

    monkeypatch.setattr(pipelines.trial.trial, "devices_for", lambda *_: 2)
    began = time.monotonic()
    finished = trained(sweep, even(sweep), kill, worker=worker_of(sweep, devices=2))
    assert time.monotonic() - began < 60
    run = run_of(sweep, finished)
    assert (finished.outcome, run.info.status) == ("crashed", "FAILED")
    assert "process 2 of 2 on cpu was killed by signal 9" in run.data.tags[schema.REASON]
    assert checkpoints_in(sweep.options.store) == []


@pytest.mark.slow
def test_the_pruner_ends_all_processes_of_a_trial(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.trial.trial, "devices_for", lambda *_: 2)
    finished = trained(sweep, even(sweep), lambda _: False, worker=worker_of(sweep, devices=2))
    assert finished.outcome == "pruned"
    assert run_of(sweep, finished).data.metrics["pruned_epoch"] == 1
    assert not multiprocessing.active_children()
    assert checkpoints_in(sweep.options.store) == []
