"""Sharded training: each device holds a part of every weight, gradient and moment, and computes a part of each batch.

PyTorch's fully sharded data parallel (FSDP2, `torch.distributed.fsdp.fully_shard`; Zhao et al. 2023): a block's weights are
gathered while the block is computed. A step equals that of one device up to the order of sums: every process draws the
dropout bits of the whole batch and uses those of its own windows, and the loss is divided by the whole batch.

Shapes: B batch, S sites, N tokens, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from research.models.kernels.dropout import Noise
from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec
from research.training.memory_estimate import FITTING_SHARE, MemoryPlan, block_bytes, choose_micro_batch, memory_plan

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
PATIENCE = timedelta(minutes=30)
"""How long an exchange waits for the other processes: one may be writing a large checkpoint. Deaths are noticed at once."""
GATHERED_BLOCKS = 6
"""Whole blocks that a device holds at once in addition to its shards, measured: weights of the current and the next block,
gradients of the current and the last one, and the buffers that send them."""


def choose_shards(
    architecture: ArchitectureSpec, batch_size: int, available: int, device: torch.device, *, devices: int
) -> int | None:
    """Return the smallest number of devices, each with `available` bytes free, that fits an AdamW training; None if none does.

    A single device may process the batch in several passes. Each of several devices processes its share in one pass.
    """
    if choose_micro_batch(architecture, batch_size, available, device):
        return 1
    limit = FITTING_SHARE * available
    counts = range(2, min(devices, batch_size) + 1)
    return next((count for count in counts if shard_memory(architecture, batch_size, device, count) <= limit), None)


def shard_memory(architecture: ArchitectureSpec, batch_size: int, device: torch.device, count: int) -> int:
    """Return the peak memory in bytes on each of `count` devices that share a training."""
    return shard_plan(architecture, batch_size, device, count).device


def shard_plan(architecture: ArchitectureSpec, batch_size: int, device: torch.device, count: int) -> MemoryPlan:
    """Return the memory plan of each of `count` devices that share a training."""
    windows = share_of(batch_size, count)
    whole = memory_plan(architecture, windows, device, batch_size=windows)
    gathered = GATHERED_BLOCKS * block_bytes(architecture)
    return replace(
        whole,
        weights=whole.weights // count,
        gradients=whole.gradients // count,
        optimizer=whole.optimizer // count,
        # Every device draws the bits of the whole batch.
        noise=whole.noise * batch_size // windows,
        backward=whole.backward + gathered,
        evaluation=whole.evaluation + gathered,
        devices=count,
    )


def share_of(batch_size: int, count: int) -> int:
    """Return the largest number of windows of a batch that one of `count` devices computes."""
    return math.ceil(batch_size / count)


@contextmanager
def devices_together(device: torch.device, rank: int, count: int, meeting_point: Path) -> Iterator[DeviceMesh]:
    """Join the process group of `count` devices; the processes meet at a file that must not exist yet."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        BACKENDS[device.type],
        init_method=meeting_point.as_uri(),
        rank=rank,
        world_size=count,
        timeout=PATIENCE,
        device_id=device if device.type == "cuda" else None,
    )
    try:
        yield init_device_mesh(device.type, (count,))
    finally:
        dist.destroy_process_group()


def shard(model: PatchTransformer, mesh: DeviceMesh) -> None:
    """Shard a model in place; all processes must have built the same model, on the CPU or on their device."""
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.noise = SharedNoise(model.noise, mesh)


def whole(value: Tensor) -> Tensor:
    """Gather a sharded tensor; all processes must call this together."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a whole tensor that all processes have, sharded like `like`; scalars stay whole."""
    if not isinstance(like, DTensor) or value.ndim == 0:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


class SharedNoise(Noise):
    """Noise that draws the bits of the whole batch, like one device, and returns those of this process's windows."""

    def __init__(self, noise: Noise, mesh: DeviceMesh):
        self.__dict__.update(noise.__dict__)
        self.rank, self.count = mesh.get_local_rank(), mesh.size()
        self.whole = 0
        """Number of windows of the whole batch."""

    def own(self, windows: int) -> slice:
        """Return the slice of `windows` windows that this process computes."""
        return slice(windows * self.rank // self.count, windows * (self.rank + 1) // self.count)

    def draw(self, windows: int, device: torch.device, *, stacked: bool) -> Tensor:
        """Return bits [B, S, N, D] of this process's windows."""
        own = self.own(self.whole)
        assert windows == own.stop - own.start
        return super().draw(self.whole, device, stacked=stacked)[own]
