"""Which executor a sweep gets, and how the cores are shared among its workers."""

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
from pipelines.trial.context import Context, DeviceGroup
from research.errors import require
from research.measurement_cache import cached_measurement
from research.models.accounting import parameter_count
from research.runtime import DEFAULT_THREADS, Precision, available_memory, devices_like
from research.spec import ArchitectureSpec, OptimizerName
from research.training.precision import faster_precision

WORTH_IT = 1.15
"""Several processes are taken when they promise at least this many times the trials of one."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Workers and what each of them has."""

    groups: tuple[DeviceGroup, ...]
    """Devices of each worker."""
    threads: int
    precision: Precision = "float32"
    stack: int = 1
    """Trials of the search that a worker trains as one model."""
    replicate_stack: int = 1
    """Replicates that it does."""

    @property
    def workers(self) -> int:
        """Trials at a time."""
        return len(self.groups)


def layout_for(
    options: SweepOptions,
    device: torch.device,
    architectures: list[ArchitectureSpec],
    trials_left: int,
    optimizer: OptimizerName = "adamw",
) -> Layout:
    """What the options ask for; else one worker per accelerator, else a measured share of the cores.

    Where a trial needs several accelerators, each worker gets so many.
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
    """Groups as large as the largest training needs; one device each where all fit one."""
    shared = devices_to_share(options, device)
    if optimizer != "adamw" or len(shared) == 1:
        return groups_of(devices_like(device), 1)
    free = min(available_memory(one) for one in shared)
    size = group_size(architectures, max(options.batch_sizes), free, device, devices=len(shared))
    return groups_of(shared, size)


def executor_for(options: SweepOptions, context: Context, layout: Layout) -> Executor:
    """The executor for a layout; one worker needs no process of its own."""
    context = replace(context, runtime=replace(context.runtime, threads=layout.threads, precision=layout.precision))
    if options.ray:
        return RayTasks(context=context, workers=options.workers)
    if layout.workers == 1:
        return InProcess(replace(context, runtime=replace(context.runtime, device=layout.groups[0][0]), group=layout.groups[0]))
    return Processes(context, layout.groups)


def _measured_workers(options: SweepOptions, architectures: list[ArchitectureSpec], trials_left: int) -> int:
    """The processes, each with its share of the cores, that train most together; one unless several clearly win."""
    cores = usable_cores()
    if min(cores, trials_left) < 2:
        return 1
    typical = sorted(architectures, key=parameter_count)[len(architectures) // 2]
    found = {one: rate for one, rate in rates(typical, options.store).items() if one.processes <= trials_left}
    best = max(found, key=lambda one: found[one])
    return best.processes if found[best] >= WORTH_IT * found[CpuShare(1, cores)] else 1


def _precision(options: SweepOptions, device: torch.device, architectures: list[ArchitectureSpec]) -> Precision:
    """The user's; else one for the whole sweep, so that no shape is computed more roughly than another."""
    if options.precision != "auto":
        return options.precision
    typical = sorted(architectures, key=parameter_count)[len(architectures) // 2]
    batch_size = min(options.batch_sizes)
    return cached_measurement(
        options.store, "faster precision", typical, device, lambda: faster_precision(typical, batch_size, device)
    )
