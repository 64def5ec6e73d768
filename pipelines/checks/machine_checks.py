"""Checks of `make doctor` on this machine: packages, device, memory, disk, ports and checkout."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from research.cli.console import byte_size

if TYPE_CHECKING:
    from research.spec import ArchitectureSpec

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = (3, 11)
BUDGETS = ("3K", "2M")
"""Budgets of the memory check: the default, and one that may be too large for a machine."""
TRIALS = 50
BATCH_SIZES = (64, 128, 256)
NAMED = 4
"""Largest number of names that a result lists."""

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Result of one check."""

    check: str
    found: str
    verdict: Verdict = "ok"
    fix: str = ""
    """Instruction for the user."""
    repair: Callable[[], str] | None = None
    """Safe automatic repair, which returns a sentence about its effect; None if there is none."""


def python_version() -> CheckResult:
    """Check that Python is new enough."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= PYTHON:
        return CheckResult(check="Python", found=found)
    return CheckResult(check="Python", found=found, verdict="problem", fix="make setup PYTHON=python3.12, after rm -r .venv")


def packages(pins: str | None = None) -> CheckResult:
    """Check that all required packages are installed in the pinned versions."""
    constraints = PROJECT / "constraints.txt"
    # An installed wheel has no constraints; the packages that it requires are checked all the same.
    pinned = pins_of(pins if pins is not None else constraints.read_text() if constraints.exists() else "")
    installed = {name: found for name in pinned if (found := installed_version(name))}
    other = [f"{name} {found}, not {pinned[name]}" for name, found in installed.items() if found != pinned[name]]
    missing = [name for name in required() if installed_version(name) is None]
    again = "rm .venv/.installed, then make setup"
    if missing:
        return CheckResult(check="packages", found=f"missing: {some(missing)}", verdict="problem", fix=again)
    if other:
        return CheckResult(check="packages", found=f"not as pinned: {some(other)}", verdict="warning", fix=again)
    if not pinned:
        return CheckResult(check="packages", found=f"{len(required())} required packages are installed")
    return CheckResult(check="packages", found=f"{len(installed)} as pinned in constraints.txt")


def pins_of(text: str) -> dict[str, str]:
    """Return the version by package of all `name==version` lines."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def required() -> list[str]:
    """Return the direct dependencies of the project, without the extras."""
    lines = [line for line in requires("tapescale") or () if "extra ==" not in line]
    return [re.match(r"[\w.-]+", line)[0] for line in lines]  # type: ignore[index]


def installed_version(package: str) -> str | None:
    """Return the version without a build label such as +cpu; None if the package is not installed."""
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        return None


def libraries() -> CheckResult:
    """Check that TA-Lib and torch load: their compiled code fails on an incompatible processor or C library."""
    failed = []
    for module, title in {"talib": "TA-Lib", "torch": "torch"}.items():
        try:
            __import__(module)
        except (ImportError, OSError) as error:
            failed.append(f"{title} does not load ({str(error).splitlines()[0]})")
    if failed:
        return CheckResult(check="libraries", found="; ".join(failed), verdict="problem", fix="rm -r .venv, then make setup")
    return CheckResult(check="libraries", found="TA-Lib and torch load")


def device() -> CheckResult:
    """Report the device that `DEVICE=auto` chooses, with a warning if an existing GPU is not usable."""
    import torch

    from research.runtime import DEFAULT_THREADS, choose_device

    chosen = choose_device()
    threads = f"{DEFAULT_THREADS} of {os.cpu_count()} cores"
    if chosen.type != "cpu":
        name = torch.cuda.get_device_name() if chosen.type == "cuda" else "Apple GPU"
        return CheckResult(check="device", found=f"{chosen.type} ({name}), threads {threads}")
    cuda = f"built for CUDA {torch.version.cuda}, no GPU seen" if torch.version.cuda else "built without CUDA"
    if shutil.which("nvidia-smi") is None:
        return CheckResult(check="device", found=f"cpu: torch is {cuda}, no MPS; threads {threads}")
    fix = "check that nvidia-smi shows the GPU and that torch is built for its driver"
    return CheckResult(check="device", found=f"cpu, though nvidia-smi is here: torch is {cuda}", verdict="warning", fix=fix)


def memory(free: int | None = None) -> CheckResult:
    """Check how many architectures of two budgets fit in the free memory, within control-group limits."""
    import torch

    from pipelines.trial.optimizer_choice import fitting_architectures
    from research.runtime import available_memory, cgroup_rooms, choose_device

    accelerator = choose_device()
    free = available_memory(accelerator) if free is None else free
    bound = " (a control group's limit)" if accelerator.type == "cpu" and free in list(cgroup_rooms()) else ""
    grids = {label: _architectures(label) for label in BUDGETS}
    fit = {
        label: len(fitting_architectures(grid, BATCH_SIZES, torch.device(accelerator.type), free, "adamw"))
        for label, grid in grids.items()
    }
    fits = ", ".join(f"{label}: {fit[label]} of {len(grids[label])} architectures fit" for label in BUDGETS)
    found = f"{byte_size(free)} free on {accelerator.type}{bound}; {fits}"
    if not fit[BUDGETS[0]]:
        return CheckResult(
            check="memory", found=found, verdict="problem", fix="end other programs, or raise the container's limit"
        )
    if fit[BUDGETS[1]] < len(grids[BUDGETS[1]]):
        return CheckResult(check="memory", found=found, verdict="warning", fix="make plan BUDGET=2M lists the needs of each")
    return CheckResult(check="memory", found=found)


def _architectures(label: str) -> list[ArchitectureSpec]:
    from research.models.budget import Budget, architectures_for
    from research.spec import ArchitectureSpec

    smallest = ArchitectureSpec(d_model=1, n_layers=1, n_heads=1, d_ff=1)
    budget = Budget.parse(label)
    return architectures_for(budget, smallest, budget.grid)


def disk(store: Path, free: int | None = None) -> CheckResult:
    """Check that the free disk space of the store's folder is enough for a large sweep."""
    from research.counts import parse_count
    from research.training.memory_estimate import FLOAT, checkpoint_bytes

    existing = next(folder for folder in (store, *store.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free if free is None else free
    used = size_of(store)
    label = BUDGETS[-1]
    # Every trial keeps its weights; a running trial writes a new checkpoint before it removes the old one.
    needed = TRIALS * FLOAT * parse_count(label, "BUDGET", "parameters")
    needed += 2 * max(checkpoint_bytes(a) for a in _architectures(label))
    found = (
        f"{byte_size(free)} free; the store takes {byte_size(used)}, a sweep of {TRIALS} trials at {label} {byte_size(needed)}"
    )
    if free < needed / TRIALS:
        return CheckResult(check="disk", found=found, verdict="problem", fix="free some, or keep the store elsewhere (--store)")
    if free < needed:
        return CheckResult(check="disk", found=found, verdict="warning", fix="free some before a sweep of that size")
    return CheckResult(check="disk", found=found)


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder; a file removed meanwhile counts as zero."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue
    return total


def ports() -> list[CheckResult]:
    """Check that the default ports of `make ui` and `make serve` are free."""
    from pipelines.serving.ports import bind
    from pipelines.serving.serve import SERVE_PORT
    from pipelines.serving.ui import UI_PORT

    results = []
    for port, verb in {UI_PORT: "ui", SERVE_PORT: "serve"}.items():
        check = f"port {port}"
        try:
            bind(port)
            results.append(CheckResult(check=check, found=f"free for make {verb}"))
        except OSError:
            fix = f"make {verb} PORT=<another>, unless make {verb} itself runs there"
            results.append(CheckResult(check=check, found="in use", verdict="warning", fix=fix))
    return results


def checkout() -> CheckResult:
    """Check that the code is committed: a run of uncommitted code cannot be reproduced or promoted."""
    from research.tracking.provenance import provenance

    record = provenance({})
    if record.commit == "unknown":
        fix = "work in a git clone, so that runs record their commit"
        return CheckResult(check="git", found="no git checkout", verdict="warning", fix=fix)
    if record.dirty:
        changed = len(re.findall(r"^diff --git", record.diff, re.MULTILINE)) + len(record.untracked)
        fix = "commit first: a run of uncommitted code cannot be promoted"
        return CheckResult(check="git", found=f"{changed} files differ from {record.commit[:7]}", verdict="warning", fix=fix)
    return CheckResult(check="git", found=f"clean at {record.commit[:7]}")


def some(names: list[str]) -> str:
    """Return the first few names and the number of the others."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
