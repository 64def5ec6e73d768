"""Identity of the process that drives a sweep or trains a run, and whether it is alive."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass

import psutil

HEARTBEAT_SECONDS = 30.0
"""Seconds between two heartbeats of a driver."""
STALE_SECONDS = 5 * HEARTBEAT_SECONDS
"""Seconds without a heartbeat after which a driver on another host counts as dead."""
START_TOLERANCE = 1.0
"""Seconds by which two readings of a process's start may differ."""


@dataclass(frozen=True, kw_only=True)
class ProcessId:
    """A process, distinct from a later one with the same number."""

    host: str
    pid: int
    started: float
    """Start of the process, seconds since 1970."""

    @classmethod
    def mine(cls) -> ProcessId:
        """Return the identity of this process."""
        return cls(host=socket.gethostname(), pid=os.getpid(), started=psutil.Process().create_time())

    @classmethod
    def read(cls, text: str) -> ProcessId:
        """Return the identity in the JSON text of a tag; other keys are ignored."""
        content = json.loads(text)
        return cls(host=content["host"], pid=content["pid"], started=content["started"])

    def text(self, **more: object) -> str:
        """Return the JSON text for a tag."""
        return json.dumps({**asdict(self), **more})

    @property
    def is_alive(self) -> bool | None:
        """Whether the process runs; None on another host, where only a heartbeat shows it."""
        if self.host != socket.gethostname():
            return None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < START_TOLERANCE
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True, kw_only=True)
class DriverClaim:
    """A driver's claim on a sweep."""

    process: ProcessId
    seen: float
    """Last heartbeat, seconds since 1970."""

    @classmethod
    def read(cls, text: str) -> DriverClaim:
        """Return the claim in the JSON text of a tag."""
        return cls(process=ProcessId.read(text), seen=float(json.loads(text)["seen"]))

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last heartbeat."""
        return max(0.0, time.time() - self.seen)

    @property
    def is_stale(self) -> bool:
        """Whether the last heartbeat is too old."""
        return self.silent_seconds >= STALE_SECONDS

    @property
    def is_gone(self) -> bool:
        """Whether the driver has ended; on another host only its silence shows it."""
        alive = self.process.is_alive
        return self.is_stale if alive is None else not alive
