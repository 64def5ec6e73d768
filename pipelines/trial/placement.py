"""The micro-batch of a trial on one device, or the number of its worker's devices that train it together."""

from __future__ import annotations

from pipelines.trial.context import WorkerResources
from research.runtime import available_memory
from research.spec import TrialSpec
from research.training.distributed.fsdp import choose_shards
from research.training.memory_estimate import choose_micro_batch, peak_memory


class InfeasibleError(Exception):
    """The model does not fit into memory even one window at a time, nor across the worker's devices."""


def micro_batch_for(spec: TrialSpec, worker: WorkerResources, side_by_side: int = 1) -> int:
    """Return the user's micro-batch, or the largest that fits the worker's share of the free memory, in windows.

    `side_by_side` trials share that memory. Raises `InfeasibleError` if nothing fits.
    """
    batch_size, device, optimizer = spec.training.batch_size, worker.runtime.device, spec.training.optimizer
    if worker.runtime.micro_batch and optimizer == "adamw":
        return min(worker.runtime.micro_batch, batch_size)
    free = int(available_memory(device) * worker.memory_share / side_by_side)
    micro_batch = choose_micro_batch(spec.architecture, batch_size, free, device, optimizer=optimizer)
    if micro_batch is None:
        least, how = (1, "one window at a time") if optimizer == "adamw" else (batch_size, "for the whole batch")
        needed = peak_memory(spec.architecture, least, device, optimizer=optimizer)
        spread = f", and {len(worker.devices)} devices do not hold it together" if _may_be_spread(spec, worker) else ""
        raise InfeasibleError(f"needs {needed / 1e9:.1f} GB {how}; {free / 1e9:.1f} GB are free for it{spread}")
    return micro_batch


def devices_for(spec: TrialSpec, worker: WorkerResources) -> int:
    """Return the fewest of the worker's devices that hold a trial, or 1 if all of them together do not."""
    if not _may_be_spread(spec, worker):
        return 1
    architecture, batch_size, device = spec.architecture, spec.training.batch_size, worker.runtime.device
    free = [int(available_memory(device) * worker.memory_share) for device in worker.devices]
    if choose_micro_batch(architecture, batch_size, free[0], device):
        return 1
    return choose_shards(architecture, batch_size, min(free), device, devices=len(free)) or 1


def _may_be_spread(spec: TrialSpec, worker: WorkerResources) -> bool:
    # A micro-batch from the user applies to one device. Low-memory updates need whole weights.
    return len(worker.devices) > 1 and not worker.runtime.micro_batch and spec.training.optimizer == "adamw"
