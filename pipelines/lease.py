"""Who may drive a sweep: one process at a time, wherever it runs. A dead driver's claim is taken over."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from uuid import uuid4

import psutil
from filelock import FileLock, Timeout

from research.spec import InputError
from research.tracking import schema
from research.tracking.runs import RunLog
from research.tracking.store import Store

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 5 * HEARTBEAT_SECONDS
"""A driver on another host that has not been heard of for so long counts as dead."""
SETTLE_SECONDS = 1.0
"""Two hosts that claim a sweep at the same moment look again after this time; the later claim wins."""
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


@contextmanager
def only_driver(store: Store, sweep_fingerprint: str) -> Iterator[None]:
    """Hold the sweep's lock on this machine; the system frees it however this process ends.

    A second driver is an `InputError` that names the first.
    """
    folder = store.root / "locks"
    folder.mkdir(exist_ok=True, parents=True)
    owner = folder / f"{sweep_fingerprint}.owner"
    lock = FileLock(folder / f"{sweep_fingerprint}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"this sweep is running already, as {owner.read_text()}; wait for it or stop it.") from None
    try:
        owner.write_text(str(ProcessId.mine()))
        yield
    finally:
        lock.release()


def refuse_if_driven(tags: Mapping[str, str], status: str) -> None:
    """Raise `InputError` if the sweep with these tags has a living driver, on this host or another."""
    if status != "RUNNING" or schema.OWNER not in tags:
        return
    owner = ProcessId.read(tags[schema.OWNER])
    silent = time.time() - float(json.loads(tags[schema.OWNER])["seen"])
    alive = owner.is_alive
    if owner != ProcessId.mine() and (alive or (alive is None and silent < STALE_SECONDS)):
        raise InputError(
            f"this sweep is running already, as {owner}, last heard of {silent:.0f} s ago; wait for it or stop it "
            f"(a driver that died on another host is given up after {STALE_SECONDS:.0f} s of silence)."
        )


class TakenOverError(InputError):
    """Another driver has the sweep."""


class Lease:
    """A process's claim on a sweep: a tag on its parent run, renewed by a heartbeat until the lease is left."""

    def __init__(self, log: RunLog, heartbeat_seconds: float = HEARTBEAT_SECONDS):
        self._log = log
        self._every = heartbeat_seconds
        self._me = ProcessId.mine()
        self._token = uuid4().hex
        self._taken_by = ""
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def __enter__(self) -> Lease:
        self._claim()
        if not self._log.store.is_local:
            time.sleep(SETTLE_SECONDS)
            self._look()
            self.check()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def check(self) -> None:
        """Raise `InputError` once another driver has taken the sweep over, as after a long suspension."""
        if self._taken_by:
            raise TakenOverError(f"this sweep has been taken over by {self._taken_by}; this driver stops and leaves it alone.")

    def _claim(self) -> None:
        self._log.tag(schema.OWNER, self._me.text(token=self._token, seen=time.time()))

    def _look(self) -> None:
        held = self._log.tags().get(schema.OWNER)
        if held and json.loads(held)["token"] != self._token:
            self._taken_by = str(ProcessId.read(held))

    def _beat(self) -> None:
        while not self._left.wait(self._every) and not self._taken_by:
            try:
                self._look()
                if not self._taken_by:
                    self._claim()
            except Exception:
                # A store that is away for a moment is the driver's to report; the next beat tries again.
                pass
