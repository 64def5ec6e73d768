"""Which process drives a sweep or trains a run, as its tag says, and whether it is still there."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass

import psutil

HEARTBEAT_SECONDS = 30.0
"""How often a driver says that it is there."""
STALE_SECONDS = 5 * HEARTBEAT_SECONDS
"""A driver on another host that has not been heard of for so long counts as dead."""
START_TOLERANCE = 1.0
"""Seconds by which two readings of one process's start may differ."""


@dataclass(frozen=True, kw_only=True)
class ProcessId:
    """A process, told apart from a later one that was given the same number."""

    host: str
    pid: int
    started: float
    """Seconds since 1970."""

    @classmethod
    def mine(cls) -> ProcessId:
        """The process that asks."""
        return cls(host=socket.gethostname(), pid=os.getpid(), started=psutil.Process().create_time())

    @classmethod
    def read(cls, text: str) -> ProcessId:
        """From the JSON text in a tag; other keys are left alone."""
        found = json.loads(text)
        return cls(host=found["host"], pid=found["pid"], started=found["started"])

    def text(self, **more: object) -> str:
        """JSON for a tag."""
        return json.dumps({**asdict(self), **more})

    @property
    def is_alive(self) -> bool | None:
        """Whether it still runs; None if it is on another host, where only a heartbeat can tell."""
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
    """The driver of a sweep."""

    process: ProcessId
    seen: float
    """Its last heartbeat, seconds since 1970."""

    @classmethod
    def read(cls, text: str) -> DriverClaim:
        """From the JSON text in a tag."""
        return cls(process=ProcessId.read(text), seen=float(json.loads(text)["seen"]))

    @property
    def silent_seconds(self) -> float:
        """Time since its last heartbeat."""
        return max(0.0, time.time() - self.seen)

    @property
    def is_stale(self) -> bool:
        """Whether it has been silent for longer than a driver is."""
        return self.silent_seconds >= STALE_SECONDS

    @property
    def is_gone(self) -> bool:
        """Whether it has ended; of a process on another host that is known by its silence only."""
        alive = self.process.is_alive
        return self.is_stale if alive is None else not alive
