"""Weights and training states on disk, as safetensors files that are written completely or not at all."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

LARGE = 64 * 2**20
"""Bytes above which writing a checkpoint takes longer than handing it to another thread."""
NOTES = "notes"
"""Key of the JSON text in a checkpoint's header."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State from which a training continues after an epoch as if it had never stopped."""

    tensors: dict[str, Tensor]
    """Model, optimizer, best weights and random states, by dotted name, on the CPU."""
    notes: dict[str, Any]
    """Plain values: identity, epoch records, best epoch, micro-batch."""

    @property
    def n_bytes(self) -> int:
        """Size of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors under a prefix, by name without the prefix."""
        return {name.removeprefix(f"{prefix}."): t for name, t in self.tensors.items() if name.startswith(f"{prefix}.")}

    def save(self, path: Path) -> None:
        """Write under a temporary name and rename: a kill leaves the old checkpoint or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(self.tensors, path, {NOTES: json.dumps(self.notes)})

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """Return the checkpoint at `path`; None if there is none or it cannot be read."""
        try:
            with safe_open(path, framework="pt") as file:
                notes = json.loads(file.metadata()[NOTES])
                return cls(tensors={name: file.get_tensor(name) for name in file.keys()}, notes=notes)  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None


class Writer:
    """Saves checkpoints one after the other; large ones of an accelerator in the background.

    An accelerator's tensors are copied to the host in any case. On a CPU the tensors are the live ones: a second copy of
    weights and moments would cost more in memory than writing costs in time.
    """

    def __init__(self, device: torch.device, large: int = LARGE):
        self._in_background = device.type != "cpu"
        self._large = large
        self._thread: threading.Thread | None = None
        self._error = ""

    def save(self, checkpoint: Checkpoint, path: Path) -> None:
        """Write a checkpoint, or start writing it; a failure is a warning and does not end the training."""
        self.wait()
        if self._in_background and checkpoint.n_bytes >= self._large:
            # The best weights are on the host and the next better epoch overwrites them.
            owned = replace(checkpoint, tensors={name: value.clone() for name, value in checkpoint.tensors.items()})
            self._thread = threading.Thread(target=self._write, args=(owned, path), name="checkpoint")
            self._thread.start()
        else:
            self._write(checkpoint, path)
            self._warn()

    def wait(self) -> None:
        """Wait until nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._warn()

    def _write(self, checkpoint: Checkpoint, path: Path) -> None:
        try:
            checkpoint.save(path)
        except (OSError, SafetensorError) as error:
            self._error = f"epoch {len(checkpoint.notes['records'])}: no checkpoint could be written ({error})"

    def _warn(self) -> None:
        # In the training's own thread, where a warning can become an error.
        if self._error:
            warnings.warn(self._error, stacklevel=3)
            self._error = ""


def epochs_done(path: Path) -> int:
    """Return the number of epochs in the checkpoint at `path`, from its header; 0 if there is none."""
    notes = _notes(path)
    return len(notes["records"]) if notes else 0


def micro_batch_of(path: Path) -> int | None:
    """Return the micro-batch of the checkpoint at `path`; None if there is none."""
    notes = _notes(path)
    return int(notes["micro_batch"]) if notes else None


def _notes(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint's notes without loading its tensors; None if it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            notes: dict[str, Any] = json.loads(file.metadata()[NOTES])
            return notes
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def pack(prefix: str, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return named tensors under a prefix, contiguous and on the CPU; tensors are copied one at a time."""
    return {f"{prefix}.{name}": value.detach().cpu().contiguous() for name, value in tensors}


def staging_of(path: Path) -> Path:
    """Return the temporary path under which the file at `path` is written."""
    return path.with_suffix(".partial")


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a model's weights completely or not at all."""
    _write({name: value.detach().cpu().contiguous() for name, value in weights.items()}, path)


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    staging = staging_of(path)
    try:
        save_file(tensors, staging, metadata)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
