"""The number of trials of one architecture to train as one model, by a short probe on the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F

from pipelines.options import SweepOptions
from research.errors import InputError, require
from research.measurement_cache import cached_measurement
from research.models.accounting import parameter_count
from research.models.patch_transformer import PatchTransformer
from research.runtime import available_memory
from research.spec import ArchitectureSpec
from research.training.memory_estimate import FITTING_SHARE, peak_memory

SIZES = (4, 8)
"""Stack sizes that are measured. Larger stacks gain little and hold a worker for longer."""
WORTH_IT = 1.2
"""Least gain in windows per second over single trials for which trials are stacked."""
FEWEST_STACKS = 8
"""Fewest stacks left for which a search is stacked, because each stack tries one shape only."""
PROBE_SECONDS = 0.3
DROPOUT = 0.1


def stack_size(options: SweepOptions, device: torch.device, architectures: list[ArchitectureSpec], trials_left: int) -> int:
    """Return the number of trials of the search to train as one model."""
    requested = requested_size(options)
    if requested is not None:
        return requested
    limit = trials_left // FEWEST_STACKS
    return best_size(options, device, architectures, limit) if limit >= min(SIZES) else 1


def replicate_stack_size(
    options: SweepOptions, device: torch.device, architectures: list[ArchitectureSpec], replicates: int
) -> int:
    """Return the number of replicates of one configuration to train as one model."""
    requested = requested_size(options)
    if requested is not None:
        return requested
    return best_size(options, device, architectures, replicates) if replicates > 1 else 1


def requested_size(options: SweepOptions) -> int | None:
    """Return the user's stack size: a number, 1 for `off`, or None for `auto`."""
    words = {"off": 1, "auto": None}
    if options.stack in words:
        return words[options.stack]
    if not options.stack.isdecimal():
        raise InputError(f"STACK={options.stack}: give auto, off or a number of trials such as 4.")
    require(int(options.stack) >= 1, "STACK", options.stack, "give auto, off or a number of trials such as 4.")
    return int(options.stack)


def best_size(options: SweepOptions, device: torch.device, architectures: list[ArchitectureSpec], limit: int) -> int:
    """Return the fastest stack size up to `limit`, or 1 unless a stack clearly wins."""
    typical = sorted(architectures, key=parameter_count)[len(architectures) // 2]
    batch_size = sorted(options.batch_sizes)[len(options.batch_sizes) // 2]
    room = FITTING_SHARE * available_memory(device)
    sizes = [size for size in SIZES if size <= limit and size * peak_memory(typical, batch_size, device) <= room]
    if not sizes:
        return 1
    sizes_measured = (1, *sizes)
    found = cached_measurement(
        options.store,
        f"windows per second of {', '.join(map(str, sizes_measured))} trials as one model, batches of {batch_size}",
        typical,
        device,
        lambda: [windows_per_second(typical, batch_size, copies, device) for copies in sizes_measured],
    )
    gains = dict(zip(sizes_measured, (rate / found[0] for rate in found), strict=True))
    best = max(sizes, key=lambda size: gains[size])
    return best if gains[best] >= WORTH_IT else 1


def windows_per_second(architecture: ArchitectureSpec, batch_size: int, copies: int, device: torch.device) -> float:
    """Return the windows per second of all copies in a training step without its optimizer."""
    rates = DROPOUT if copies == 1 else [DROPOUT] * copies
    model = PatchTransformer(architecture, rates).to(device)
    shape = (*model.copies, batch_size, architecture.context_length, architecture.n_features)
    x_BTF = torch.randn(shape, device=device)
    symbols_B = torch.zeros(shape[:-2], dtype=torch.int64, device=device)
    y_B = torch.zeros(shape[:-2], device=device)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(model(x_BTF, symbols_B), y_B).backward()  # type: ignore[no-untyped-call]

    return copies * batch_size / _seconds(step, device)


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    step()
    times: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < PROBE_SECONDS or len(times) < 3:
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return median(times)
