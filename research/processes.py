"""What a process and those that it starts owe each other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import NoReturn

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
PIPE_BROKEN = (EOFError, BrokenPipeError, ConnectionResetError)
"""What reading from or writing to a process that is gone raises."""


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let a stop wait until the block has ended; a process started inside lets it wait until it can answer.

    The mask is for the process that is started. It would not do for this one: another thread takes the signal
    then, and Python hands it to the main thread all the same.
    """
    # Its first start would lift the mask.
    resource_tracker.ensure_running()
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in STOP_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for stop in came:
        signal.raise_signal(stop)


def die_with_parent() -> None:
    """End this process at once when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def exit_now() -> NoReturn:
    """End this process without taking Python down first.

    Threads of C++ libraries that have not ended by then are stopped where they ask for the interpreter, which aborts
    (SIGABRT, "terminate called without an active exception"). Gloo's do not end with their process group: PyTorch's
    caches of sharded tensors hold it.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)
