"""A device that is not there is an error, and what a machine spends is measured."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from research.runtime import PeakMemory, Runtime, choose_device, hardware, seed_everything
from research.spec import InputError

MEBIBYTE = 2**20
HERE = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
ABSENT = [kind for kind, there in HERE.items() if not there]


@pytest.mark.parametrize("name", [*ABSENT, *(f"{kind}:0" for kind in ABSENT), "banana", ""])
def test_a_device_that_is_not_there_is_refused_with_what_is(name: str) -> None:
    with pytest.raises(InputError, match=f"DEVICE={name}: not available here") as error:
        choose_device(name)
    offered = str(error.value).rsplit("one of ", 1)[1].rstrip(".").split(", ")
    assert offered == [kind for kind, there in HERE.items() if there]


def test_auto_takes_the_best_device_there_is() -> None:
    assert choose_device().type == choose_device("auto").type == next(kind for kind, there in HERE.items() if there)


def test_a_device_asked_for_by_name_is_the_one_used() -> None:
    assert choose_device("cpu") == torch.device("cpu")


def test_auto_prefers_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


def test_a_numbered_device_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "cuda:banana", "cpu:banana"):
        with pytest.raises(InputError, match=f"DEVICE={name}"):
            choose_device(name)


def test_peak_memory_grows_with_what_is_allocated() -> None:
    memory = PeakMemory(torch.device("cpu"))
    before = memory.read()
    block = torch.ones(64 * MEBIBYTE, dtype=torch.uint8)
    held = memory.read()
    del block
    assert before > 0
    assert held - before > 60 * MEBIBYTE
    assert memory.read() > held - MEBIBYTE  # The kernel counts pages in batches.


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset the high-water mark")
def test_peak_memory_forgets_what_was_freed_before_it() -> None:
    memory = PeakMemory(torch.device("cpu"))
    block = torch.ones(128 * MEBIBYTE, dtype=torch.uint8)
    held = memory.read()
    del block
    assert PeakMemory(torch.device("cpu")).read() < held - 100 * MEBIBYTE


def test_hardware_says_what_the_machine_is() -> None:
    found = hardware(torch.device("cpu"))
    assert set(found) == {
        "machine",
        "system",
        "cpu",
        "cores",
        "memory_bytes",
        "device",
        "accelerator",
        "threads",
        "torch",
        "python",
    }
    assert found["device"] == found["accelerator"] == "cpu"
    assert found["torch"] == torch.__version__
    assert all(str(value) for value in found.values())
    assert int(found["memory_bytes"]) > 100 * MEBIBYTE


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 5])
def test_a_seed_sets_every_source_of_random_numbers(seed: int) -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seed_everything(seed)
    first = draws()
    assert draws() != first
    seed_everything(seed)
    assert draws() == first
    seed_everything(seed + 1)
    assert not set(draws()) & set(first)


def test_seeding_asks_for_deterministic_kernels() -> None:
    torch.use_deterministic_algorithms(False)
    seed_everything(0)
    assert torch.are_deterministic_algorithms_enabled()
    # An operation without a deterministic kernel warns and goes on: a slow machine is better than none.
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_a_runtime_decides_the_threads_whatever_ran_before() -> None:
    torch.set_num_threads(1)
    Runtime(device=torch.device("cpu"), threads=2).apply()
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
