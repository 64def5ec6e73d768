"""Which executor a sweep gets, and how the cores are shared among its workers."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

import torch

from pipelines.executors.base import Executor
from pipelines.executors.in_process import InProcess
from pipelines.executors.processes import Processes
from pipelines.executors.ray_tasks import RayTasks
from pipelines.options import SweepOptions
from pipelines.trial_record import Context
from research.models.accounting import parameter_count
from research.models.patch_transformer import PatchTransformer
from research.runtime import DEFAULT_THREADS
from research.spec import ArchitectureSpec, require

WORTH_IT = 1.15
"""Several processes are taken when they promise at least this many times the trials of one."""
PROBE_SECONDS = 1.0
PROBE_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Workers and what each of them has."""

    devices: tuple[torch.device, ...]
    threads: int

    @property
    def workers(self) -> int:
        """Trials at a time."""
        return len(self.devices)


def layout_for(options: SweepOptions, device: torch.device, architectures: list[ArchitectureSpec], trials_left: int) -> Layout:
    """What the options ask for; else one worker per accelerator, else a measured share of the cores."""
    require(options.workers is None or options.workers >= 1, "WORKERS", options.workers, "give 1 or more.")
    if device.type == "cuda":
        # `cuda:1` means that one; `cuda` alone has no index and means all of them.
        devices = _all_cuda() if str(device) == "cuda" else (device,)
        workers = options.workers or min(len(devices), max(trials_left, 1))
        shared = tuple(devices[index % len(devices)] for index in range(workers))
        return Layout(devices=shared, threads=options.threads or DEFAULT_THREADS)
    workers = options.workers or (1 if device.type == "mps" or options.ray else _measured_workers(architectures, trials_left))
    threads = options.threads or max(DEFAULT_THREADS // workers, 1)
    return Layout(devices=(device,) * workers, threads=threads)


def executor_for(options: SweepOptions, context: Context, layout: Layout) -> Executor:
    """The executor for a layout; one worker needs no process of its own."""
    context = replace(context, runtime=replace(context.runtime, threads=layout.threads))
    if options.ray:
        return RayTasks(context=context, workers=options.workers)
    if layout.workers == 1:
        return InProcess(replace(context, runtime=replace(context.runtime, device=layout.devices[0])))
    return Processes(context, layout.devices)


def _measured_workers(architectures: list[ArchitectureSpec], trials_left: int) -> int:
    """One process per core with one thread each, unless all threads on one trial are as fast together."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(cores, DEFAULT_THREADS)
    most = min(cores, trials_left)
    if most < 2:
        return 1
    typical = sorted(architectures, key=parameter_count)[len(architectures) // 2]
    one, all_threads = _seconds_per_pass(typical, 1), _seconds_per_pass(typical, cores)
    return most if most * all_threads / one >= WORTH_IT else 1


def _seconds_per_pass(architecture: ArchitectureSpec, threads: int) -> float:
    """Forward and backward of two blocks at the architecture's width; depth repeats the same work."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = PatchTransformer(replace(architecture, n_layers=min(architecture.n_layers, 2)))
        x_BTF = torch.randn(PROBE_BATCH, architecture.context_length, architecture.n_features)
        times: list[float] = []
        started = time.perf_counter()
        while time.perf_counter() - started < PROBE_SECONDS / 2 or len(times) < 2:
            began = time.perf_counter()
            model(x_BTF).sum().backward()
            times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2]
    finally:
        torch.set_num_threads(before)


def _all_cuda() -> tuple[torch.device, ...]:
    return tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))
