"""What `make doctor` finds on this machine: packages, device, memory, disk, ports, checkout. Numbers and verdicts only."""

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

if TYPE_CHECKING:
    from research.spec import ArchitectureSpec

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = (3, 11)
BUDGETS = ("3K", "2M")
"""Those whose memory is looked at: the default one, and one for which a machine may be too small."""
TRIALS = 50
BATCH_SIZES = (64, 128, 256)
NAMED = 4
"""Most names that a finding tells one by one."""

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check."""

    check: str
    found: str
    verdict: Verdict = "ok"
    fix: str = ""
    """What to do about it."""
    mend: Callable[[], str] | None = None
    """Does it, where that is safe, and says what was done."""


def python_version() -> CheckResult:
    """Whether Python is new enough."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= PYTHON:
        return CheckResult(check="Python", found=found)
    return CheckResult(check="Python", found=found, verdict="problem", fix="make setup PYTHON=python3.12, after rm -r .venv")


def packages(pins: str | None = None) -> CheckResult:
    """Whether what is installed is what was pinned, and whether all that the project needs is there."""
    constraints = PROJECT / "constraints.txt"
    # An installed wheel has no constraints; what it requires is checked all the same.
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
    """Package -> version of every `name==version` line."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def required() -> list[str]:
    """The project's direct dependencies without the extras."""
    lines = [line for line in requires("tapescale") or () if "extra ==" not in line]
    return [re.match(r"[\w.-]+", line)[0] for line in lines]  # type: ignore[index]


def installed_version(package: str) -> str | None:
    """Without a build's own mark, as in 2.13.0+cpu; None if it is not there."""
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        return None


def libraries() -> CheckResult:
    """Whether the two packages with compiled code of their own load: another processor or C library shows here."""
    failed = []
    for module, title in {"talib": "TA-Lib", "torch": "torch"}.items():
        try:
            __import__(module)
        except (ImportError, OSError) as problem:
            failed.append(f"{title} does not load ({str(problem).splitlines()[0]})")
    if failed:
        return CheckResult(check="libraries", found="; ".join(failed), verdict="problem", fix="rm -r .venv, then make setup")
    return CheckResult(check="libraries", found="TA-Lib and torch load")


def device() -> CheckResult:
    """Which device `DEVICE=auto` takes, and why not a faster one."""
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
    fix = "see whether nvidia-smi shows the GPU, and whether torch is built for its driver"
    return CheckResult(check="device", found=f"cpu, though nvidia-smi is here: torch is {cuda}", verdict="warning", fix=fix)


def memory(free: int | None = None) -> CheckResult:
    """How many architectures of a small and a large budget can be trained in what is free, control groups counted."""
    import torch

    from pipelines.trial.optimizer_choice import fitting_architectures
    from research.runtime import available_memory, cgroup_rooms, choose_device

    place = choose_device()
    free = available_memory(place) if free is None else free
    bound = " (a control group's limit)" if place.type == "cpu" and free in list(cgroup_rooms()) else ""
    counts = {label: _architectures(label) for label in BUDGETS}
    fit = {
        label: len(fitting_architectures(all_, BATCH_SIZES, torch.device(place.type), free, "adamw"))
        for label, all_ in counts.items()
    }
    told = ", ".join(f"{label}: {fit[label]} of {len(counts[label])} architectures fit" for label in BUDGETS)
    found = f"{gigabytes(free)} free on {place.type}{bound}; {told}"
    if not fit[BUDGETS[0]]:
        return CheckResult(
            check="memory", found=found, verdict="problem", fix="end other programs, or raise the container's limit"
        )
    if fit[BUDGETS[1]] < len(counts[BUDGETS[1]]):
        return CheckResult(check="memory", found=found, verdict="warning", fix="make plan BUDGET=2M says what each takes")
    return CheckResult(check="memory", found=found)


def _architectures(label: str) -> list[ArchitectureSpec]:
    from research.models.budget import Budget, architectures_for
    from research.spec import ArchitectureSpec

    one = ArchitectureSpec(d_model=1, n_layers=1, n_heads=1, d_ff=1)
    budget = Budget.parse(label)
    return architectures_for(budget, one, budget.grid)


def disk(store: Path, free: int | None = None) -> CheckResult:
    """What is free where the store lies or will lie, beside what it takes and what a sweep would."""
    from research.counts import parse_count
    from research.training.memory_estimate import FLOAT, checkpoint_bytes

    there = next(folder for folder in (store, *store.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free if free is None else free
    taken = size_of(store)
    label = BUDGETS[-1]
    # Every trial keeps its weights; a running one writes a checkpoint beside the one that it replaces.
    needed = TRIALS * FLOAT * parse_count(label, "BUDGET", "parameters")
    needed += 2 * max(checkpoint_bytes(a) for a in _architectures(label))
    found = (
        f"{gigabytes(free)} free; the store takes {gigabytes(taken)}, a sweep of {TRIALS} trials at {label} {gigabytes(needed)}"
    )
    if free < needed / TRIALS:
        return CheckResult(check="disk", found=found, verdict="problem", fix="free some, or keep the store elsewhere (--store)")
    if free < needed:
        return CheckResult(check="disk", found=found, verdict="warning", fix="free some before a sweep of that size")
    return CheckResult(check="disk", found=found)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder; one that goes meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def ports() -> list[CheckResult]:
    """Whether the pages and the model can be served on their usual ports."""
    from pipelines.serving.ports import bind
    from pipelines.serving.serve import SERVE_PORT
    from pipelines.serving.ui import UI_PORT

    found = []
    for port, verb in {UI_PORT: "ui", SERVE_PORT: "serve"}.items():
        check = f"port {port}"
        try:
            bind(port)
            found.append(CheckResult(check=check, found=f"free for make {verb}"))
        except OSError:
            fix = f"make {verb} PORT=<another>, unless it is {verb} that runs there"
            found.append(CheckResult(check=check, found="in use", verdict="warning", fix=fix))
    return found


def checkout() -> CheckResult:
    """Whether the commit alone gives the code: a run from uncommitted changes cannot be repeated, nor promoted."""
    from research.tracking.provenance import provenance

    record = provenance({})
    if record.commit == "unknown":
        fix = "work in a git clone: a run then knows its code"
        return CheckResult(check="git", found="no git checkout", verdict="warning", fix=fix)
    if record.dirty:
        changed = len(re.findall(r"^diff --git", record.diff, re.MULTILINE)) + len(record.untracked)
        fix = "commit first: a run of uncommitted code cannot be promoted"
        return CheckResult(check="git", found=f"{changed} files differ from {record.commit[:7]}", verdict="warning", fix=fix)
    return CheckResult(check="git", found=f"clean at {record.commit[:7]}")


def gigabytes(count: int | float) -> str:
    """Bytes as a short text."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
