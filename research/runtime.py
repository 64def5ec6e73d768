"""How a run is executed: device, threads, micro-batch, determinism. None of it is part of an experiment's identity."""

from __future__ import annotations

import os
import platform
import random
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch

from research.errors import InputError, require

Precision = Literal["float32", "bfloat16"]
DEFAULT_THREADS = torch.get_num_threads()
"""What torch chose for this machine when it was loaded: one per physical core."""
CGROUP_MEMORY = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Linux control groups, version 2 (its one hierarchy has no name) and version 1: folder, limit, usage, reclaimable pages."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where and how trials are computed."""

    device: torch.device
    """cuda, mps or cpu."""
    threads: int = DEFAULT_THREADS
    """CPU threads of one process. Sums over another number of threads differ in their last bits."""
    micro_batch: int | None = None
    """Windows per forward pass; None means the whole batch. Gradients are accumulated to the full batch."""
    precision: Precision = "float32"
    """Of the products in training's forward and backward passes; weights, sums and evaluation are float32 all the same."""
    compile: bool = True
    """On CUDA: compile the blocks and replay whole steps as one graph. Elsewhere it changes nothing."""

    def __post_init__(self) -> None:
        require(self.threads >= 1, "threads", self.threads, "give 1 or more.")
        small = self.micro_batch is None or self.micro_batch >= 1
        require(small, "micro_batch", self.micro_batch, "give 1 or more windows, or leave it out.")

    def apply(self) -> None:
        """Set precision and threads of the process, whatever ran in it before."""
        torch.set_num_threads(self.threads)
        if self.device.type == "cuda":
            # TF32: what float32 products are rounded to before they are added up in float32.
            torch.set_float32_matmul_precision("high")


def choose_device(name: str = "auto") -> torch.device:
    """`auto` takes CUDA, then MPS, then the CPU; a device that is not there is an error, never a fallback."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    kind, _, index = name.partition(":")
    numbered = not index or (kind == "cuda" and index.isdecimal() and int(index) < torch.cuda.device_count())
    if not available.get(kind, False) or not numbered:
        here = ", ".join(kind for kind, there in available.items() if there)
        raise InputError(f"DEVICE={name}: not available here; give auto or one of {here}.")
    return torch.device(name)


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and Python, and ask for deterministic kernels: the same spec then gives the same bits."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh buffers guards against reading uninitialised memory, which nothing here does; it costs 2% of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def devices_like(device: torch.device) -> tuple[torch.device, ...]:
    """The devices that a name stands for: `cuda:1` means that one; `cuda` alone has no index and means all of them."""
    if str(device) != "cuda":
        return (device,)
    return tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))


def hardware(device: torch.device) -> dict[str, str | int]:
    """What this machine is, for the record of a run."""
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": _memory_bytes(),
        "device": device.type,
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device without harm to what runs there."""
    if device.type == "cuda":
        # Blocks that torch's allocator holds but does not use are free to us, though not to others.
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    if device.type == "mps":
        return max(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory(), 0)
    free = int(psutil.virtual_memory().available)
    return min([free, *cgroup_rooms()])


def cgroup_rooms(groups: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Bytes left under each memory limit of the process's control groups, its own and those above it.

    A container often sees its own group at the mount's root whatever path is given, so the root is read too.
    """
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, controllers, path = line.split(":", 2)
        for controller in CGROUP_MEMORY.keys() & set(controllers.split(",")):
            folder_name, *names = CGROUP_MEMORY[controller]
            base = mount / folder_name
            own = base / path.strip("/")
            for folder in {own, *own.parents, base}:
                if folder.is_relative_to(base) and (folder / names[0]).exists():
                    yield from _room(folder, *names)


def _room(folder: Path, limit: str, used: str, reclaimable: str) -> Iterator[int]:
    bound = (folder / limit).read_text().strip()
    if bound != "max":
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # File pages that were not used lately count as usage, but are released at once when memory is needed.
        taken = int((folder / used).read_text()) - int(statistics.get(reclaimable, 0))
        yield max(int(bound) - taken, 0)


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out, on the device or on the host."""
    return isinstance(problem, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(problem)


class PeakMemory:
    """Highest memory in use between construction and `read`: allocated on CUDA, resident set elsewhere.

    Where the kernel cannot reset its high-water mark (macOS), the value is the whole process's peak.
    """

    def __init__(self, device: torch.device):
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")

    def read(self) -> int:
        """Bytes."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        if Path("/proc/self/status").exists():
            status = Path("/proc/self/status").read_text()
            return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
