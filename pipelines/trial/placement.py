"""How a trial gets room: so many windows per pass on one device, or so many devices of its worker's group together."""

from __future__ import annotations

from pipelines.trial.context import Context
from pipelines.trial.job import Job
from research.runtime import available_memory
from research.training.distributed.fsdp import choose_shards
from research.training.memory_estimate import choose_micro_batch, peak_memory


class InfeasibleError(Exception):
    """The model does not fit the memory even one window at a time, nor across the worker's devices."""


def micro_batch_for(context: Context, job: Job, side_by_side: int = 1) -> int:
    """The user's, or the largest that the free memory of this machine, shared with its other workers, has room for."""
    batch_size, device = job.spec.training.batch_size, context.runtime.device
    optimizer = job.spec.training.optimizer
    if context.runtime.micro_batch and optimizer == "adamw":
        return min(context.runtime.micro_batch, batch_size)
    free = int(available_memory(device) * context.memory_share / side_by_side)
    chosen = choose_micro_batch(job.spec.architecture, batch_size, free, device, optimizer=optimizer)
    if chosen is None:
        least, how = (1, "one window at a time") if optimizer == "adamw" else (batch_size, "for the whole batch")
        needed = peak_memory(job.spec.architecture, least, device, optimizer=optimizer)
        beside = f", and {len(context.group)} devices do not hold it together" if _may_be_spread(context, job) else ""
        raise InfeasibleError(f"needs {needed / 1e9:.1f} GB {how}; {free / 1e9:.1f} GB are free for it{beside}")
    return chosen


def devices_for(context: Context, job: Job) -> int:
    """The fewest devices of the worker's group that hold a trial; 1 also where not even all of them do."""
    if not _may_be_spread(context, job):
        return 1
    architecture, batch_size, device = job.spec.architecture, job.spec.training.batch_size, context.runtime.device
    free = [int(available_memory(one) * context.memory_share) for one in context.group]
    if choose_micro_batch(architecture, batch_size, free[0], device):
        return 1
    return choose_shards(architecture, batch_size, min(free), device, devices=len(free)) or 1


def _may_be_spread(context: Context, job: Job) -> bool:
    """A micro-batch that the user gives is one device's; low-memory updates need whole weights."""
    return len(context.group) > 1 and not context.runtime.micro_batch and job.spec.training.optimizer == "adamw"
