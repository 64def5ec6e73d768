"""Groups of devices: a trial may be spread over the devices of its worker's group."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from pipelines.options import SweepOptions
from pipelines.trial.context import DeviceGroup
from research.runtime import devices_like
from research.spec import ArchitectureSpec
from research.training.distributed.fsdp import choose_shards


def devices_to_share(options: SweepOptions, device: torch.device) -> DeviceGroup:
    """Return the devices of this machine that may hold a trial together.

    A Ray task has one device. A micro-batch from the user applies to one device.
    """
    return (device,) if options.ray or options.micro_batch else devices_like(device)


def group_size(
    architectures: Iterable[ArchitectureSpec], batch_size: int, available: int, device: torch.device, *, devices: int
) -> int:
    """Return the devices that a worker needs for the largest architecture, with `available` bytes free on each."""
    needed = (choose_shards(a, batch_size, available, device, devices=devices) for a in architectures)
    return max((count for count in needed if count), default=1)


def groups_of(devices: DeviceGroup, size: int) -> tuple[DeviceGroup, ...]:
    """Return as many groups of `size` devices as possible. Left-over devices stay idle."""
    return tuple(devices[first : first + size] for first in range(0, len(devices) - size + 1, size))
