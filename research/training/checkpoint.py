"""Weights and whole training states on disk: safetensors, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec

NOTES = "notes"
"""Key of the JSON text in a checkpoint's header."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that a training needs to go on after an epoch as if it had never stopped."""

    tensors: dict[str, Tensor]
    """Model, optimizer, best weights and random states, by dotted name, on the CPU."""
    notes: dict[str, Any]
    """Plain values: identity, epoch records, best epoch, micro-batch."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix, without it."""
        return {name.removeprefix(f"{prefix}."): t for name, t in self.tensors.items() if name.startswith(f"{prefix}.")}

    def save(self, path: Path) -> None:
        """Write under a temporary name and rename: a kill leaves the old checkpoint or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(self.tensors, path, {NOTES: json.dumps(self.notes)})

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """The checkpoint at `path`; None if there is none or it cannot be read."""
        try:
            with safe_open(path, framework="pt") as file:
                notes = json.loads(file.metadata()[NOTES])
                return cls(tensors={name: file.get_tensor(name) for name in file.keys()}, notes=notes)  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None


def epochs_done(path: Path) -> int:
    """Epochs that the checkpoint at `path` holds, read from its header; 0 if there is none."""
    notes = _notes(path)
    return len(notes["records"]) if notes else 0


def micro_batch_of(path: Path) -> int | None:
    """The micro-batch that the checkpoint at `path` was trained with; None if there is none."""
    notes = _notes(path)
    return int(notes["micro_batch"]) if notes else None


def _notes(path: Path) -> dict[str, Any] | None:
    """A checkpoint's notes, without its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            notes: dict[str, Any] = json.loads(file.metadata()[NOTES])
            return notes
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def pack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under a prefix, on the CPU and contiguous."""
    return {f"{prefix}.{name}": value.detach().cpu().contiguous() for name, value in tensors.items()}


def save_weights(model: PatchTransformer, path: Path) -> None:
    """Write a model's weights whole or not at all."""
    _write({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, path)


def load_weights(architecture: ArchitectureSpec, path: Path) -> PatchTransformer:
    """A model with these weights, on the CPU and ready to predict."""
    model = PatchTransformer(architecture)
    model.load_state_dict(load_file(path))
    return model.eval()


def random_states(device: torch.device) -> dict[str, Tensor]:
    """States of the generators that training draws from: the CPU's and the device's."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put the generators back; a state of a device that is not in use is left alone."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    staging = path.with_suffix(".partial")
    try:
        save_file(tensors, staging, metadata)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
