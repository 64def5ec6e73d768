"""Locks that let one process at a time drive a sweep, on any host. The claim of a dead driver is taken over."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import uuid4

from filelock import FileLock, Timeout

from research.errors import InputError
from research.tracking import schema
from research.tracking.process_identity import HEARTBEAT_SECONDS, STALE_SECONDS, DriverClaim, ProcessId
from research.tracking.run_writer import RunLog
from research.tracking.store import Store

LEAVE_SECONDS = 1.0
"""Time that leaving a lease waits for a running heartbeat."""
SETTLE_SECONDS = 1.0
"""Time after which a claim is checked again. If two hosts claim at the same moment, the later claim wins."""


@contextmanager
def only_driver(store: Store, fingerprint: str, kind: str = "sweep") -> Iterator[None]:
    """Hold the lock of a sweep or a study on this machine; the system frees it however this process ends.

    A second driver is an `InputError` that names the first.
    """
    folder = store.root / "locks"
    folder.mkdir(exist_ok=True, parents=True)
    owner = folder / f"{fingerprint}.owner"
    lock = FileLock(folder / f"{fingerprint}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        # The other may have the lock and not yet have written its name.
        name = owner.read_text() if owner.exists() else "another process"
        raise InputError(f"this {kind} is running already, as {name}; wait for it or stop it.") from None
    try:
        owner.write_text(str(ProcessId.mine()))
        yield
    finally:
        lock.release()


def refuse_if_driven(tags: Mapping[str, str], status: str) -> None:
    """Raise `InputError` if the sweep with these tags has a living driver, on this host or another."""
    if status != "RUNNING" or schema.OWNER not in tags:
        return
    owner = DriverClaim.read(tags[schema.OWNER])
    if owner.process != ProcessId.mine() and not owner.is_gone:
        raise InputError(
            f"this sweep is running already, as {owner.process}, last heard of {owner.silent_seconds:.0f} s ago; wait for it "
            f"or stop it (a driver that died on another host is given up after {STALE_SECONDS:.0f} s of silence)."
        )


class TakenOverError(InputError):
    """Another driver has the sweep."""


class DriverLease:
    """A process's claim on a sweep: a tag on its parent run, renewed by a heartbeat until the lease is left."""

    def __init__(self, log: RunLog, heartbeat_seconds: float = HEARTBEAT_SECONDS):
        self._log = log
        self._every = heartbeat_seconds
        self._me = ProcessId.mine()
        self._token = uuid4().hex
        self._taken_by = ""
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def __enter__(self) -> DriverLease:
        self._claim()
        if not self._log.store.is_local:
            time.sleep(SETTLE_SECONDS)
            self.confirm()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join(LEAVE_SECONDS)

    def check(self) -> None:
        """Raise `InputError` once another driver has taken the sweep over, as after a long suspension."""
        if self._taken_by:
            raise TakenOverError(f"this sweep has been taken over by {self._taken_by}; this driver stops and leaves it alone.")

    def confirm(self) -> None:
        """Look into the store, then `check`: the last heartbeat may be older than a suspension."""
        self._look()
        self.check()

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
                if not self._left.is_set() and not self._taken_by:
                    self._claim()
            except Exception:
                # A store that is away for a moment is the driver's to report; the next beat tries again.
                pass
