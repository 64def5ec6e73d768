"""One training across several devices: each holds a part of every weight, gradient and moment, and takes a part of each batch.

PyTorch's fully sharded data parallel (FSDP2, `torch.distributed.fsdp.fully_shard`; Zhao et al. 2023): a block's weights are
gathered while it is computed. A step is that of one device, up to the order of sums: every process draws the dropout bits of
the whole batch and uses those of its own windows, and the loss is divided by the whole batch.

Shapes: B batch, T context days, F features.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from research.models.dropout import Noise
from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec
from research.training.memory import FITTING_SHARE, block_bytes, choose_micro_batch, memory_plan

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
GATHERED_BLOCKS = 6
"""Whole blocks that a device holds at once beside its shards, measured: weights of the one in use and of the next, gradients
of one and the last, and the buffers in which they are sent."""


def choose_shards(
    architecture: ArchitectureSpec, batch_size: int, available: int, device: torch.device, *, devices: int
) -> int | None:
    """The fewest of these devices that hold an AdamW training together, each with `available` bytes free; None if all do not.

    One device may take the batch in several passes; of several each takes its share of the windows in one.
    """
    if choose_micro_batch(architecture, batch_size, available, device):
        return 1
    room = FITTING_SHARE * available
    counts = range(2, min(devices, batch_size) + 1)
    return next((count for count in counts if shard_memory(architecture, batch_size, device, count) <= room), None)


def shard_memory(architecture: ArchitectureSpec, batch_size: int, device: torch.device, count: int) -> int:
    """Peak in bytes on each of `count` devices that share a training."""
    windows = math.ceil(batch_size / count)
    whole = memory_plan(architecture, windows, device, batch_size=windows)
    gathered = GATHERED_BLOCKS * block_bytes(architecture)
    return replace(
        whole,
        weights=whole.weights // count,
        gradients=whole.gradients // count,
        optimizer=whole.optimizer // count,
        # Bits are drawn for the whole batch.
        noise=whole.noise * batch_size // windows,
        backward=whole.backward + gathered,
        evaluation=whole.evaluation + gathered,
    ).device


@contextmanager
def devices_together(device: torch.device, rank: int, count: int, meeting_point: Path) -> Iterator[DeviceMesh]:
    """The devices of this process and of the `count - 1` others, who meet at a file that none of them has made."""
    dist.init_process_group(BACKENDS[device.type], init_method=meeting_point.as_uri(), rank=rank, world_size=count)
    try:
        yield init_device_mesh(device.type, (count,))
    finally:
        dist.destroy_process_group()


def shard(model: PatchTransformer, mesh: DeviceMesh) -> None:
    """Leave this process its part of a model that all have built alike, on the CPU or on their device. In place."""
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.noise = _SharedNoise(model.noise, mesh)


def sharded_step(
    model: PatchTransformer,
    optimizer: torch.optim.Optimizer,
    x_BTF: Tensor,
    y_B: Tensor,
    symbol_B: Tensor,
    *,
    gradient_clip: float,
) -> tuple[Tensor, Tensor]:
    """One optimizer step; loss and gradient norm of the whole batch. All processes call it with the same whole batch."""
    noise = model.noise
    assert isinstance(noise, _SharedNoise)
    noise.whole = len(y_B)
    own = noise.own
    optimizer.zero_grad(set_to_none=True)
    with warnings.catch_warnings():
        # That logits are a view matters only to whoever changes them in place.
        warnings.filterwarnings("ignore", message=".*returned a view tensor")
        logits_B = model(x_BTF[own], symbol_B[own])
    loss = F.binary_cross_entropy_with_logits(logits_B, y_B[own], reduction="sum") / len(y_B)
    # Gradients are averaged over processes, and the whole batch's is their sum.
    (loss * noise.count).backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(model.parameters(), gradient_clip)
    optimizer.step()
    loss = loss.detach()
    dist.all_reduce(loss)
    return loss, whole(norm)


def whole(value: Tensor) -> Tensor:
    """A tensor of which every process holds a part, put together; all of them must ask for it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_weights(model: PatchTransformer) -> dict[str, Tensor]:
    """All weights by name, on the CPU; gathered one after the other, since no device may hold them all."""
    return {name: whole(value.detach()).cpu() for name, value in model.named_parameters()}


class _SharedNoise(Noise):
    """Draws the bits of the whole batch, as one device would, and gives out those of this process's windows."""

    def __init__(self, alone: Noise, mesh: DeviceMesh):
        self.__dict__.update(alone.__dict__)
        self.rank, self.count = mesh.get_local_rank(), mesh.size()
        self.whole = 0
        """Windows of the batch."""

    @property
    def own(self) -> slice:
        """Windows of this process."""
        return slice(self.whole * self.rank // self.count, self.whole * (self.rank + 1) // self.count)

    def draw(self, windows: int, device: torch.device, *, stacked: bool) -> Tensor:
        """Bits [B, S, N, D] of this process's windows."""
        assert windows == self.own.stop - self.own.start
        return super().draw(self.whole, device, stacked=stacked)[self.own]
