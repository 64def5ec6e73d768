"""Cost of each architecture of a budget on a machine: parameters, FLOPs, memory, time and disk."""

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
"""Checkpoints on disk at once: the old one stays until the new one is written."""


@dataclass(frozen=True, kw_only=True)
class PlanMachine:
    """Free resources of the planned machine, in bytes."""

    device: torch.device
    memory: int
    """Free memory of each device."""
    host_memory: int
    """Free memory of the host; the same memory if the device is the CPU."""
    disk: int
    """Free space in the folder of checkpoints."""
    devices: int = 1
    """Number of devices that one trial may use."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Upper limits of the work of a trial."""

    windows: tuple[int, int]
    """Training windows of an epoch and validation windows of its evaluation."""
    epochs: int
    batch_sizes: tuple[int, ...]
    """Batch sizes of the search. Memory is planned for the largest; time for the smallest, which takes longest."""
    micro_batch: int | None = None
    """Micro-batch requested by the user."""
    optimizer: OptimizerName = "adamw"


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One architecture on one machine."""

    architecture: ArchitectureSpec
    parameters: int
    flops_per_sample: int
    """FLOPs of the forward and backward pass of one window."""
    flops_per_trial: int
    """FLOPs of all epochs and their evaluations."""
    micro_batch: int | None
    """Windows per pass at the largest batch, on each device; None if not even one fits."""
    accumulation: int
    """Passes per optimizer step at the largest batch."""
    peak_memory: int
    """Bytes on the device with this micro-batch, or with a single window."""
    host_memory: int
    """Bytes in the host's memory."""
    seconds: float
    """Seconds of a whole trial, also if it does not fit. On several devices, communication between them is excluded."""
    checkpoint: int
    """Bytes of a checkpoint file."""
    obstacles: tuple[str, ...]
    """Resources that are too small; empty if the architecture can be trained."""
    devices: int = 1
    """Smallest number of devices that fit the largest batch together."""


@dataclass(frozen=True, kw_only=True)
class PlanTotals:
    """Cost of a whole sweep over the architectures that fit, or over all if none does."""

    seconds: tuple[float, float, float]
    """Seconds of all trials if each had the fastest, the median, or the slowest architecture."""
    checkpoint: int
    """Bytes of the largest running trial's checkpoints."""
    weights: int
    """Upper limit of the bytes of kept weights; a trial keeps them only if it leads when it ends."""
    without: dict[str, int]
    """Number of architectures that each obstacle rules out."""


def plan_rows(
    architectures: Sequence[ArchitectureSpec], work: Workload, machine: PlanMachine, speed: TimeEstimator
) -> list[PlanRow]:
    """Return one row per architecture, in the given order."""
    chosen = preflight(architectures, work.batch_sizes, machine.device, machine.memory, work.optimizer)
    if (given := work.micro_batch) and work.optimizer == "adamw":
        # A requested micro-batch is used unchanged; a sweep halves it only when memory runs out.
        chosen = {a: {size: min(given, size) for size in work.batch_sizes} for a in architectures}
    return [_row(a, _placement(a, chosen[a], work, machine, speed), work, machine) for a in architectures]


@dataclass(frozen=True, kw_only=True)
class _Placement:
    """Placement of an architecture at the largest batch, also if it does not fit."""

    micro_batch: int | None
    accumulation: int
    memory: MemoryPlan
    seconds: float
    devices: int = 1


def _placement(
    a: ArchitectureSpec, chosen: dict[int, int | None], work: Workload, machine: PlanMachine, speed: TimeEstimator
) -> _Placement:
    """Return the placement on one device, or on the fewest devices that fit if one is too small."""
    largest = max(work.batch_sizes)
    if chosen[largest] is None and work.optimizer == "adamw":
        count = choose_shards(a, largest, machine.memory, machine.device, devices=machine.devices)
        if count is not None:
            return _spread(a, count, work, machine, speed)
    smallest = min(work.batch_sizes)
    windows = largest if work.optimizer == "adafactor" else 1
    return _Placement(
        micro_batch=chosen[largest],
        accumulation=math.ceil(largest / (chosen[largest] or 1)),
        memory=memory_plan(a, chosen[largest] or windows, machine.device, optimizer=work.optimizer, batch_size=largest),
        seconds=speed.trial(
            a,
            batch_size=smallest,
            micro_batch=chosen[smallest] or smallest,
            windows=work.windows,
            epochs=work.epochs,
            recompute=work.optimizer == "adafactor",
        ),
    )


def _spread(a: ArchitectureSpec, count: int, work: Workload, machine: PlanMachine, speed: TimeEstimator) -> _Placement:
    largest, share = max(work.batch_sizes), share_of(min(work.batch_sizes), count)
    windows = (share_of(work.windows[0], count), share_of(work.windows[1], count))
    return _Placement(
        micro_batch=share_of(largest, count),
        accumulation=1,
        memory=shard_plan(a, largest, machine.device, count),
        seconds=speed.trial(a, batch_size=share, micro_batch=share, windows=windows, epochs=work.epochs),
        devices=count,
    )


def _row(a: ArchitectureSpec, placement: _Placement, work: Workload, machine: PlanMachine) -> PlanRow:
    training, validation = work.windows
    return PlanRow(
        architecture=a,
        parameters=parameter_count(a),
        flops_per_sample=training_flops(a),
        flops_per_trial=work.epochs * (training * training_flops(a) + validation * forward_flops(a)),
        micro_batch=placement.micro_batch,
        accumulation=placement.accumulation,
        peak_memory=placement.memory.device,
        host_memory=placement.memory.host,
        seconds=placement.seconds,
        checkpoint=checkpoint_bytes(a, work.optimizer),
        obstacles=obstacles(placement.memory, checkpoint_bytes(a, work.optimizer), machine),
        devices=placement.devices,
    )


def obstacles(memory: MemoryPlan, checkpoint: int, machine: PlanMachine) -> tuple[str, ...]:
    """Return the names of the resources that are too small for a training."""
    needs = {
        "memory": (memory.device, FITTING_SHARE * machine.memory),
        "host memory": (memory.host, FITTING_SHARE * machine.host_memory),
        "disk": (CHECKPOINTS_AT_ONCE * checkpoint, machine.disk),
    }
    if memory.on_host:
        del needs["host memory"]
    return tuple(name for name, (needed, available) in needs.items() if needed > available)


def totals(rows: Sequence[PlanRow], trials: int) -> PlanTotals:
    """Return the totals of a sweep with this number of trials."""
    counted = [row for row in rows if not row.obstacles] or rows
    seconds = [trials * row.seconds for row in counted]
    names = [name for row in rows for name in row.obstacles]
    return PlanTotals(
        seconds=(min(seconds), median(seconds), max(seconds)),
        checkpoint=CHECKPOINTS_AT_ONCE * max(row.checkpoint for row in counted),
        weights=trials * max(FLOAT * row.parameters for row in counted),
        without={name: names.count(name) for name in dict.fromkeys(names)},
    )
