"""Times work by the processor time of the one thread that does it: what else the machine runs is mostly left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from benchmarks.measurement import in_turn


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes in the calling thread alone, backward passes on the CPU included."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor time that this thread spent on the work; what other threads do for it is not seen."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def cpu_in_turn(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median processor seconds of each work on one thread, in interleaved rounds; the first warms up and is not counted."""
    with one_thread():
        return in_turn([partial(cpu_seconds, work) for work in works], rounds)
