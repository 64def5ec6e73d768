"""Training speed of every way to share this machine's CPU cores among processes, measured once and cached.

All processes of a share are timed at the same moment, because cores share caches, memory and power.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import torch

from research.measurement_cache import cached_measurement
from research.models.patch_transformer import PatchTransformer
from research.runtime import DEFAULT_THREADS
from research.spec import ArchitectureSpec

PROBE_SECONDS = 1.0
PROBE_BATCH = 128
PROBE_LAYERS = 2
"""Layers of the probe's model. More layers repeat the same work."""
PATIENCE_SECONDS = 120.0
"""Time in which the probe's processes load torch."""


class CpuShare(NamedTuple):
    """Number of processes, and threads of each."""

    processes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.processes}x{self.threads}"


def usable_cores() -> int:
    """Return the number of physical cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, DEFAULT_THREADS)


def possible(cores: int) -> list[CpuShare]:
    """Return all even shares, from one process with all cores to one process per core."""
    return [CpuShare(count, cores // count) for count in range(1, cores + 1) if cores % count == 0]


def rates(architecture: ArchitectureSpec, folder: Path) -> dict[CpuShare, float]:
    """Return the training windows per second of each share, summed over its processes."""
    shares = possible(usable_cores())

    def measure_all() -> list[float]:
        measured = measure(architecture, shares)
        return [measured[share] for share in shares]

    name = f"windows per second of {', '.join(map(str, shares))}"
    return dict(zip(shares, cached_measurement(folder, name, architecture, torch.device("cpu"), measure_all), strict=True))


def measure(architecture: ArchitectureSpec, shares: list[CpuShare]) -> dict[CpuShare, float]:
    """Measure the windows per second of each share."""
    mp = multiprocessing.get_context("spawn")
    count = max(share.processes for share in shares)
    barrier, found = mp.Barrier(count), mp.Queue()
    workers = [
        mp.Process(target=_work, args=(index, shares, architecture, barrier, found), daemon=True) for index in range(count)
    ]
    for worker in workers:
        worker.start()
    try:
        sums = dict.fromkeys(shares, 0.0)
        for _ in range(sum(share.processes for share in shares)):
            share, rate = found.get(timeout=PATIENCE_SECONDS)
            sums[share] += rate
        return sums
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _work(index: int, shares: list[CpuShare], architecture: ArchitectureSpec, barrier: Barrier, found: Any) -> None:
    model = PatchTransformer(replace(architecture, n_layers=min(architecture.n_layers, PROBE_LAYERS)), 0.1)
    x_BTF = torch.randn(PROBE_BATCH, architecture.context_length, architecture.n_features)
    symbols_B = torch.zeros(PROBE_BATCH, dtype=torch.int64)
    for share in shares:
        torch.set_num_threads(share.threads)
        model(x_BTF, symbols_B).sum().backward()
        barrier.wait(PATIENCE_SECONDS)
        if index < share.processes:
            found.put((share, _rate(model, x_BTF, symbols_B)))
        # No process continues with the next share while this one is timed.
        barrier.wait(PATIENCE_SECONDS)


def _rate(model: PatchTransformer, x_BTF: torch.Tensor, symbols_B: torch.Tensor) -> float:
    began = time.perf_counter()
    steps = 0
    while (seconds := time.perf_counter() - began) < PROBE_SECONDS or steps == 0:
        model(x_BTF, symbols_B).sum().backward()
        steps += 1
    return steps * len(x_BTF) / seconds
