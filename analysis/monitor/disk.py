"""How much room is left for results."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOW_BYTES = 5e9
LOW_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Disk:
    """The disk under a store."""

    free: int
    """Bytes."""
    total: int
    checkpoints: int
    """Bytes in the folder of checkpoints, a part of what is used."""

    @property
    def is_low(self) -> bool:
        """Whether a sweep may soon stand still for want of room."""
        return self.free < LOW_BYTES or self.free < LOW_SHARE * self.total


def disk_under(root: Path) -> Disk:
    """The disk that the store's folder is on, or will be."""
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    usage = shutil.disk_usage(there)
    return Disk(free=usage.free, total=usage.total, checkpoints=_size(root / "checkpoints"))


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        # A checkpoint goes when its trial ends, perhaps at this moment.
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total
