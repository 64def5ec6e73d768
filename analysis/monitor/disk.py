"""Free space for results."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOW_BYTES = 5e9
LOW_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Space on the disk of a store, in bytes."""

    free: int
    total: int
    checkpoints: int
    """Size of the checkpoint folder, a part of the used space."""

    @property
    def is_low(self) -> bool:
        """Whether a sweep may soon stop for lack of space."""
        return self.free < LOW_BYTES or self.free < LOW_SHARE * self.total


def disk_under(root: Path) -> Disk:
    """Return the space on the disk of the store's folder, which need not exist yet."""
    usage = shutil.disk_usage(next(folder for folder in (root, *root.parents) if folder.exists()))
    checkpoints = 0
    for file in (root / "checkpoints").rglob("*"):
        # A checkpoint is deleted when its trial ends, which may be now.
        with suppress(FileNotFoundError):
            checkpoints += file.stat().st_size
    return Disk(free=usage.free, total=usage.total, checkpoints=checkpoints)
