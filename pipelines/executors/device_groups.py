"""Over how many devices a sweep may spread a trial, and how its workers share the devices for that."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from pipelines.options import SweepOptions
from pipelines.trial.context import DeviceGroup
from research.runtime import devices_like
from research.spec import ArchitectureSpec
from research.training.distributed.fsdp import choose_shards


def devices_to_share(options: SweepOptions, device: torch.device) -> DeviceGroup:
    """Devices of this machine that may hold a trial together.

    A Ray task is given one; a micro-batch that the user asks for is tried on one, as it is.
    """
    return (device,) if options.ray or options.micro_batch else devices_like(device)


def group_size(
    architectures: Iterable[ArchitectureSpec], batch_size: int, available: int, device: torch.device, *, devices: int
) -> int:
    """Devices that a worker needs to train each of these that several can hold at all; `available` bytes on each."""
    needed = (choose_shards(a, batch_size, available, device, devices=devices) for a in architectures)
    return max((count for count in needed if count), default=1)


def groups_of(devices: DeviceGroup, size: int) -> tuple[DeviceGroup, ...]:
    """As many groups of so many devices as there are; what is left over stays idle."""
    return tuple(devices[first : first + size] for first in range(0, len(devices) - size + 1, size))
