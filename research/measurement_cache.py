"""What was measured on this machine, kept beside the store: probes run once, so that a sweep goes on as it began."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from research.fingerprint import fingerprint
from research.runtime import hardware
from research.spec import TRANSFORMER, ArchitectureSpec

Answer = TypeVar("Answer")

REMEMBERED = "machine.json"
"""File in the store's folder; delete it to measure again."""


def cached_measurement(
    folder: Path, question: str, architecture: ArchitectureSpec | None, device: torch.device, ask: Callable[[], Answer]
) -> Answer:
    """The answer to a question about this machine, or about shapes of this width on it; measured if it is not known yet."""
    file = folder / REMEMBERED
    known = _read(file)
    key = _key(question, architecture, device)
    if key not in known:
        known[key] = {"question": question, "answer": ask()}
        _write(file, known)
    answer: Answer = known[key]["answer"]
    return answer


def _key(question: str, a: ArchitectureSpec | None, device: torch.device) -> str:
    """What a measurement holds for: this machine's processors and torch, and shapes of this width, whatever their depth."""
    facts = hardware(device)
    machine = {name: str(facts[name]) for name in ("cpu", "cores", "accelerator", "threads", "torch")}
    names = ("d_model", "n_heads", "d_ff", "n_patches", "n_features")
    shape = {name: getattr(a, name) for name in names} if a else {}
    family = {"family": a.family} if a and a.family != TRANSFORMER else {}
    return fingerprint({"question": question, **machine, **shape, **family})


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        found: dict[str, dict[str, Any]] = json.loads(file.read_text())
        return found
    except (OSError, ValueError):
        return {}


def _write(file: Path, known: dict[str, dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    staging = file.with_suffix(f".{os.getpid()}.partial")
    staging.write_text(json.dumps(known, indent=1) + "\n")
    os.replace(staging, file)
