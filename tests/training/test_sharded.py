"""A training shared by several processes takes the steps of a single one, and a plan says how many devices it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from research.models.patch_transformer import PatchTransformer
from research.runtime import seed_everything
from research.spec import ArchitectureSpec, TrainingSpec
from research.training.memory import FITTING_SHARE, choose_micro_batch, memory_plan
from research.training.optim import build_optimizer
from research.training.sharded import choose_shards, devices_together, shard, shard_memory, sharded_step, whole_weights

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ARCHITECTURE = ArchitectureSpec(d_model=16, n_layers=3, n_heads=2, d_ff=32, n_features=5, window_norm=True, n_symbols=2)
TRAINING = TrainingSpec(
    learning_rate=1e-3, weight_decay=0.1, dropout=0.2, warmup_steps=0, batch_size=7, epochs=1, patience=1, seed=3
)
BATCHES = (7, 7, 4, 1)
"""Uneven shares, and at last one window for two processes."""
TWO_BILLION = ArchitectureSpec(d_model=2048, n_layers=48, n_heads=16, d_ff=4096)
GIBIBYTE = 2**30


def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x_BTF = torch.randn(BATCHES[step], ARCHITECTURE.context_length, ARCHITECTURE.n_features, generator=generator)
    return x_BTF, (x_BTF[:, -1, 0] > 0).float(), torch.arange(BATCHES[step]) % 2


def built() -> PatchTransformer:
    torch.set_num_threads(1)
    seed_everything(TRAINING.seed)
    return PatchTransformer(ARCHITECTURE, TRAINING.dropout)


def alone() -> tuple[list[tuple[float, float]], dict[str, Tensor]]:
    """Loss and gradient norm of each step, and the weights at the end."""
    model = built()
    optimizer = build_optimizer(model.named_parameters(), TRAINING, ARCHITECTURE)
    taken = []
    for step in range(len(BATCHES)):
        x_BTF, y_B, symbol_B = batch(step)
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(x_BTF, symbol_B), y_B)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), TRAINING.gradient_clip)
        optimizer.step()
        taken.append((loss.item(), norm.item()))
    return taken, {name: value.detach() for name, value in model.named_parameters()}


def one_of(rank: int, count: int, folder: Path) -> None:
    """What each process does."""
    with devices_together(CPU, rank, count, folder / "meeting") as mesh:
        model = built()
        shard(model, mesh)
        optimizer = build_optimizer(model.named_parameters(), TRAINING, ARCHITECTURE)
        clip = TRAINING.gradient_clip
        taken = [sharded_step(model, optimizer, *batch(step), gradient_clip=clip) for step in range(len(BATCHES))]
        held = sum(parameter.to_local().numel() for parameter in model.parameters())
        found = {**whole_weights(model), "taken": torch.tensor(taken), "held": torch.tensor(held)}
        save_file(found, folder / f"{rank}.safetensors")


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of, args=(2, tmp_path), nprocs=2)
    taken, weights = alone()
    total = sum(value.numel() for value in weights.values())
    for rank in range(2):
        found = load_file(tmp_path / f"{rank}.safetensors")
        torch.testing.assert_close(found["taken"], torch.tensor(taken), atol=1e-4, rtol=1e-4)
        assert found["held"] < 0.6 * total
        for name, value in weights.items():
            torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4)


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
