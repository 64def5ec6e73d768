"""How many processes with how many threads each train most on this machine's CPU: measured once, then remembered.

All processes of a share are timed at the same moment, since cores share caches, memory and power.
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
"""Depth repeats the same work."""
PATIENCE_SECONDS = 120.0
"""For a probe's processes to load torch."""


class CpuShare(NamedTuple):
    """A way to share the cores."""

    processes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.processes}x{self.threads}"


def usable_cores() -> int:
    """Physical cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, DEFAULT_THREADS)


def possible(cores: int) -> list[CpuShare]:
    """All cores in one process, one process per core, and the even shares in between."""
    return [CpuShare(count, cores // count) for count in range(1, cores + 1) if cores % count == 0]


def rates(architecture: ArchitectureSpec, folder: Path) -> dict[CpuShare, float]:
    """Training windows per second of each share, all its processes together."""
    shares = possible(usable_cores())

    def ask() -> list[float]:
        found = measure(architecture, shares)
        return [found[share] for share in shares]

    question = f"windows per second of {', '.join(map(str, shares))}"
    return dict(zip(shares, cached_measurement(folder, question, architecture, torch.device("cpu"), ask), strict=True))


def measure(architecture: ArchitectureSpec, shares: list[CpuShare]) -> dict[CpuShare, float]:
    """Windows per second of each share."""
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
        # Nobody goes on to the next share while this one is timed.
        barrier.wait(PATIENCE_SECONDS)


def _rate(model: PatchTransformer, x_BTF: torch.Tensor, symbols_B: torch.Tensor) -> float:
    began = time.perf_counter()
    steps = 0
    while (seconds := time.perf_counter() - began) < PROBE_SECONDS or steps == 0:
        model(x_BTF, symbols_B).sum().backward()
        steps += 1
    return steps * len(x_BTF) / seconds
