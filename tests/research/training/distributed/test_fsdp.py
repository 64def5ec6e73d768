"""A plan says how many devices a training needs, and each of them holds its part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from research.models.patch_transformer import PatchTransformer
from research.processes import exit_now
from research.runtime import seed_everything
from research.spec import ArchitectureSpec
from research.training.distributed.fsdp import choose_shards, devices_together, part_of, shard, shard_memory, shard_plan, whole
from research.training.memory_estimate import FITTING_SHARE, choose_micro_batch, memory_plan

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ARCHITECTURE = ArchitectureSpec(d_model=16, n_layers=3, n_heads=2, d_ff=32, n_features=5, window_norm=True, n_symbols=2)
TWO_BILLION = ArchitectureSpec(d_model=2048, n_layers=48, n_heads=16, d_ff=4096)
GIBIBYTE = 2**30


def built() -> PatchTransformer:
    torch.set_num_threads(1)
    seed_everything(3)
    return PatchTransformer(ARCHITECTURE, 0.2)


def one_of(rank: int, count: int, folder: Path) -> None:
    """What each process does: cut the model, put it together, cut what was put together."""
    with devices_together(CPU, rank, count, folder / "meeting") as mesh:
        model = built()
        shard(model, mesh)
        parts = dict(model.named_parameters())
        assert all(isinstance(part, DTensor) for part in parts.values())
        together = {name: whole(part.detach()) for name, part in parts.items()}
        again = {name: part_of(together[name], part) for name, part in parts.items()}
        same = [torch.equal(again[name].to_local(), part.to_local()) for name, part in parts.items()]
        held = sum(part.to_local().numel() for part in parts.values())
        save_file({**together, "held": torch.tensor(held), "same": torch.tensor(same)}, folder / f"{rank}.safetensors")
    exit_now()


@pytest.mark.slow
def test_each_process_holds_a_part_and_all_of_them_the_whole(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of, args=(2, tmp_path), nprocs=2)
    weights = dict(built().named_parameters())
    total = sum(value.numel() for value in weights.values())
    for rank in range(2):
        found = load_file(tmp_path / f"{rank}.safetensors")
        assert found["held"] < 0.6 * total
        assert found["same"].all()
        assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_a_training_that_fits_one_device_takes_one() -> None:
    assert choose_shards(TWO_BILLION, 64, 40 * GIBIBYTE, CUDA, devices=8) == 1


def test_the_fewest_devices_that_hold_it_are_chosen() -> None:
    for count in (2, 3, 5):
        room = int(shard_memory(TWO_BILLION, 64, CUDA, count) / FITTING_SHARE) + 1
        assert choose_micro_batch(TWO_BILLION, 64, room, CUDA) is None
        assert choose_shards(TWO_BILLION, 64, room, CUDA, devices=8) == count
        assert choose_shards(TWO_BILLION, 64, room, CUDA, devices=count - 1) is None


def test_devices_without_a_window_are_not_counted_on() -> None:
    assert choose_shards(TWO_BILLION, 2, 8 * GIBIBYTE, CUDA, devices=64) is None


def test_shards_hold_a_part_of_the_state_and_of_the_windows() -> None:
    whole = memory_plan(TWO_BILLION, 64, CUDA, batch_size=64)
    halves = shard_memory(TWO_BILLION, 64, CUDA, 2)
    assert whole.device / 2 < halves < 0.6 * whole.device


def test_the_host_holds_a_whole_checkpoint_or_a_whole_model_per_process() -> None:
    alone = memory_plan(TWO_BILLION, 64, CUDA, batch_size=64)
    weights = alone.best_copy
    assert shard_plan(TWO_BILLION, 64, CUDA, 2).host == pytest.approx(alone.host, rel=1e-6) == 4 * weights
    assert shard_plan(TWO_BILLION, 64, CUDA, 8).host == 8 * weights
