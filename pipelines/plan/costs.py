"""What each architecture of a budget would cost on a machine, in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from research.models.accounting import forward_flops, parameter_count, training_flops
from research.spec import ArchitectureSpec, OptimizerName
from research.training.distributed.fsdp import choose_shards, shard_plan, share_of
from research.training.memory_estimate import FITTING_SHARE, FLOAT, MemoryPlan, checkpoint_bytes, memory_plan, preflight
from research.training.time_estimate import TimeEstimator

CHECKPOINTS_AT_ONCE = 2
"""The old checkpoint stays until the new one is written."""


@dataclass(frozen=True, kw_only=True)
class PlanMachine:
    """What a plan is made for, in bytes that are free."""

    device: torch.device
    memory: int
    """On the device, and on each of the others of its kind."""
    host_memory: int
    """Beside it; the same memory where the device is the CPU."""
    disk: int
    """Where checkpoints would be written."""
    devices: int = 1
    """Devices that a trial may be spread over."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How much a trial computes, at most."""

    windows: tuple[int, int]
    """Training windows of an epoch and validation windows of its evaluation."""
    epochs: int
    batch_sizes: tuple[int, ...]
    """What the search may choose. Memory is planned for the largest, time for the smallest, which takes longest."""
    micro_batch: int | None = None
    """Asked for by the user."""
    optimizer: OptimizerName = "adamw"


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One architecture on one machine."""

    architecture: ArchitectureSpec
    parameters: int
    flops_per_sample: int
    """Forward and backward pass of one window."""
    flops_per_trial: int
    """All epochs and their evaluations."""
    micro_batch: int | None
    """Windows per pass at the largest batch, on each device; None where not even one fits."""
    accumulation: int
    """Passes per optimizer step at the largest batch."""
    peak_memory: int
    """Bytes on the device with this micro-batch, or with a single window."""
    host_memory: int
    """Bytes in the host's memory."""
    seconds: float
    """Of a whole trial; of one that does not fit, what it would be if it did.

    Of one on several devices each one's share of the windows, without what they send each other.
    """
    checkpoint: int
    """Bytes of a checkpoint file."""
    obstacles: tuple[str, ...]
    """What is too small for it; empty where it can be trained."""
    devices: int = 1
    """Devices that hold it together at the largest batch, the fewest that do."""


@dataclass(frozen=True, kw_only=True)
class PlanTotals:
    """What a whole sweep would take. Over the architectures that fit, or over all where none does."""

    seconds: tuple[float, float, float]
    """Of all trials: if each were the fastest, the median, the slowest architecture."""
    checkpoint: int
    """Bytes of the largest running trial's checkpoints."""
    weights: int
    """Bytes of weights kept, at most: a trial leaves them only if it leads when it ends."""
    without: dict[str, int]
    """Per obstacle the architectures that it rules out."""


def plan_rows(
    architectures: Sequence[ArchitectureSpec], work: Workload, machine: PlanMachine, speed: TimeEstimator
) -> list[PlanRow]:
    """One row per architecture, in the given order."""
    chosen = preflight(architectures, work.batch_sizes, machine.device, machine.memory, work.optimizer)
    if (given := work.micro_batch) and work.optimizer == "adamw":
        # What the user asks for is tried as it is; a sweep halves it only when memory really runs out.
        chosen = {a: {size: min(given, size) for size in work.batch_sizes} for a in architectures}
    return [_row(a, _way(a, chosen[a], work, machine, speed), work, machine) for a in architectures]


@dataclass(frozen=True, kw_only=True)
class _Way:
    """How an architecture is trained at the largest batch, or would be if it fitted."""

    micro_batch: int | None
    accumulation: int
    memory: MemoryPlan
    seconds: float
    devices: int = 1


def _way(
    a: ArchitectureSpec, chosen: dict[int, int | None], work: Workload, machine: PlanMachine, speed: TimeEstimator
) -> _Way:
    """On one device; where it does not fit that, on the fewest that hold it together, if any do."""
    most = max(work.batch_sizes)
    if chosen[most] is None and work.optimizer == "adamw":
        count = choose_shards(a, most, machine.memory, machine.device, devices=machine.devices)
        if count is not None:
            return _spread(a, count, work, machine, speed)
    fewest = min(work.batch_sizes)
    least = most if work.optimizer == "adafactor" else 1
    return _Way(
        micro_batch=chosen[most],
        accumulation=math.ceil(most / (chosen[most] or 1)),
        memory=memory_plan(a, chosen[most] or least, machine.device, optimizer=work.optimizer, batch_size=most),
        seconds=speed.trial(
            a,
            batch_size=fewest,
            micro_batch=chosen[fewest] or fewest,
            windows=work.windows,
            epochs=work.epochs,
            recompute=work.optimizer == "adafactor",
        ),
    )


def _spread(a: ArchitectureSpec, count: int, work: Workload, machine: PlanMachine, speed: TimeEstimator) -> _Way:
    most, share = max(work.batch_sizes), share_of(min(work.batch_sizes), count)
    windows = (share_of(work.windows[0], count), share_of(work.windows[1], count))
    return _Way(
        micro_batch=share_of(most, count),
        accumulation=1,
        memory=shard_plan(a, most, machine.device, count),
        seconds=speed.trial(a, batch_size=share, micro_batch=share, windows=windows, epochs=work.epochs),
        devices=count,
    )


def _row(a: ArchitectureSpec, way: _Way, work: Workload, machine: PlanMachine) -> PlanRow:
    training, validation = work.windows
    return PlanRow(
        architecture=a,
        parameters=parameter_count(a),
        flops_per_sample=training_flops(a),
        flops_per_trial=work.epochs * (training * training_flops(a) + validation * forward_flops(a)),
        micro_batch=way.micro_batch,
        accumulation=way.accumulation,
        peak_memory=way.memory.device,
        host_memory=way.memory.host,
        seconds=way.seconds,
        checkpoint=checkpoint_bytes(a, work.optimizer),
        obstacles=obstacles(way.memory, checkpoint_bytes(a, work.optimizer), machine),
        devices=way.devices,
    )


def obstacles(memory: MemoryPlan, checkpoint: int, machine: PlanMachine) -> tuple[str, ...]:
    """What is too small for a training."""
    needs = {
        "memory": (memory.device, FITTING_SHARE * machine.memory),
        "host memory": (memory.host, FITTING_SHARE * machine.host_memory),
        "disk": (CHECKPOINTS_AT_ONCE * checkpoint, machine.disk),
    }
    if memory.on_host:
        del needs["host memory"]
    return tuple(name for name, (needed, there) in needs.items() if needed > there)


def totals(rows: Sequence[PlanRow], trials: int) -> PlanTotals:
    """What the trials of a sweep come to."""
    counted = [row for row in rows if not row.obstacles] or rows
    seconds = [trials * row.seconds for row in counted]
    names = [name for row in rows for name in row.obstacles]
    return PlanTotals(
        seconds=(min(seconds), median(seconds), max(seconds)),
        checkpoint=CHECKPOINTS_AT_ONCE * max(row.checkpoint for row in counted),
        weights=trials * max(FLOAT * row.parameters for row in counted),
        without={name: names.count(name) for name in dict.fromkeys(names)},
    )
