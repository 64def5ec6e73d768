"""The choice of a sweep's executor, and of each worker's share of the machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from pipelines.executors.base import Executor
from pipelines.executors.cpu_shares import CpuShare, rates, usable_cores
from pipelines.executors.device_groups import devices_to_share, group_size, groups_of
from pipelines.executors.in_process import InProcess
from pipelines.executors.processes import Processes
from pipelines.executors.ray_tasks import RayTasks
from pipelines.executors.stack_size import replicate_stack_size, stack_size
from pipelines.options import SweepOptions
from pipelines.trial.context import DeviceGroup, SweepContext, WorkerContext, WorkerResources
from research.errors import require
from research.measurement_cache import cached_measurement
from research.models.accounting import parameter_count
from research.runtime import DEFAULT_THREADS, Precision, Runtime, available_memory, devices_like
from research.spec import ArchitectureSpec, OptimizerName
from research.training.precision import faster_precision

WORTH_IT = 1.15
"""Least measured gain in trials per second over one process for which several are started."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The workers of a sweep and the resources of each."""

    groups: tuple[DeviceGroup, ...]
    """Devices of each worker."""
    threads: int
    precision: Precision = "float32"
    stack: int = 1
    """Trials of the search that are trained as one model."""
    replicate_stack: int = 1
    """Replicates that are trained as one model."""

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self.groups)


def layout_for(
    options: SweepOptions,
    device: torch.device,
    architectures: list[ArchitectureSpec],
    trials_left: int,
    optimizer: OptimizerName = "adamw",
) -> Layout:
    """Return the layout that the options give, else one worker per accelerator or a measured share of the cores.

    If a trial needs several accelerators, each worker gets that many.
    """
    require(options.workers is None or options.workers >= 1, "WORKERS", options.workers, "give 1 or more.")
    groups, threads = _groups_and_threads(options, device, architectures, trials_left, optimizer)
    torch.set_num_threads(threads)
    return Layout(
        groups=groups,
        threads=threads,
        precision=_precision(options, device, architectures),
        stack=stack_size(options, device, architectures, trials_left // len(groups)),
        replicate_stack=replicate_stack_size(options, device, architectures, options.replicates),
    )


def _groups_and_threads(
    options: SweepOptions,
    device: torch.device,
    architectures: list[ArchitectureSpec],
    trials_left: int,
    optimizer: OptimizerName,
) -> tuple[tuple[DeviceGroup, ...], int]:
    if device.type == "cuda":
        groups = _cuda_groups(options, device, architectures, optimizer)
        workers = options.workers or min(len(groups), max(trials_left, 1))
        return tuple(groups[index % len(groups)] for index in range(workers)), options.threads or DEFAULT_THREADS
    alone = device.type == "mps" or options.ray
    workers = options.workers or (1 if alone else _measured_workers(options, architectures, trials_left))
    return ((device,),) * workers, options.threads or max(DEFAULT_THREADS // workers, 1)


def _cuda_groups(
    options: SweepOptions, device: torch.device, architectures: list[ArchitectureSpec], optimizer: OptimizerName
) -> tuple[DeviceGroup, ...]:
    """Return groups that the largest training fits into. They have one device each if every trial fits one."""
    shared = devices_to_share(options, device)
    if optimizer != "adamw" or len(shared) == 1:
        return groups_of(devices_like(device), 1)
    free = min(available_memory(device) for device in shared)
    size = group_size(architectures, max(options.batch_sizes), free, device, devices=len(shared))
    return groups_of(shared, size)


def executor_for(options: SweepOptions, sweep: SweepContext, runtime: Runtime, layout: Layout) -> Executor:
    """Return the executor of a layout. A single worker needs no process of its own."""
    runtime = replace(runtime, threads=layout.threads, precision=layout.precision)
    if options.ray:
        return RayTasks(sweep=sweep, runtime=runtime, workers=options.workers)
    if layout.workers > 1:
        return Processes(sweep, runtime, layout.groups)
    (devices,) = layout.groups
    return InProcess(WorkerContext.build(sweep, WorkerResources(runtime=replace(runtime, device=devices[0]), devices=devices)))


def _measured_workers(options: SweepOptions, architectures: list[ArchitectureSpec], trials_left: int) -> int:
    """Return the number of processes that train most together, or 1 unless several clearly win."""
    cores = usable_cores()
    if min(cores, trials_left) < 2:
        return 1
    typical = sorted(architectures, key=parameter_count)[len(architectures) // 2]
    measured = {share: rate for share, rate in rates(typical, options.store).items() if share.processes <= trials_left}
    best = max(measured, key=lambda share: measured[share])
    return best.processes if measured[best] >= WORTH_IT * measured[CpuShare(1, cores)] else 1


def _precision(options: SweepOptions, device: torch.device, architectures: list[ArchitectureSpec]) -> Precision:
    """Return the user's precision, else one for the whole sweep, so that all shapes are computed alike."""
    if options.precision != "auto":
        return options.precision
    typical = sorted(architectures, key=parameter_count)[len(architectures) // 2]
    batch_size = min(options.batch_sizes)
    return cached_measurement(
        options.store, "faster precision", typical, device, lambda: faster_precision(typical, batch_size, device)
    )
