"""A device that is not there is an error, and what a machine spends is measured."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from research.errors import InputError
from research.runtime import PeakMemory, Runtime, available_memory, cgroup_rooms, choose_device, hardware, seed_everything

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


def test_memory_of_the_cpu_is_between_nothing_and_all_of_it() -> None:
    found = available_memory(torch.device("cpu"))
    assert 10 * MEBIBYTE < found <= int(hardware(torch.device("cpu"))["memory_bytes"])


def test_what_is_allocated_is_no_longer_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 600)
    # What torch's allocator keeps without using it can be had as well.
    assert available_memory(torch.device("cuda")) == 5100
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 800)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 300)
    assert available_memory(torch.device("mps")) == 500


@pytest.mark.parametrize(
    ("line", "folder", "names"),
    [
        ("0::/slice/job", "", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:cpu,memory:/slice/job",
            "memory",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_a_container_has_what_its_tightest_limit_leaves(
    line: str, folder: str, names: tuple[str, str, str], tmp_path: Path
) -> None:
    limit, used, reclaimable = names

    def group(path: str, bound: str, usage: int) -> None:
        place = tmp_path / "mount" / folder / path
        place.mkdir(parents=True, exist_ok=True)
        (place / limit).write_text(f"{bound}\n")
        (place / used).write_text(f"{usage}\n")
        (place / "memory.stat").write_text(f"anon 3\n{reclaimable} 100\n")

    def rooms() -> list[int]:
        return sorted(cgroup_rooms(tmp_path / "groups", tmp_path / "mount"))

    (tmp_path / "groups").write_text(f"7:pids:/slice/job\n{line}\n")
    assert rooms() == []
    group("slice/job", "1000", 400)
    assert rooms() == [700]  # Pages of files that nobody uses count as free.
    group("slice", "900", 500)
    group("", "5000", 500)
    assert rooms() == [500, 700, 4600]
    group("slice/job", "300", 450)
    assert rooms()[0] == 0
    if not folder:
        group("slice/job", "max", 450)
        assert rooms() == [500, 4600]


def test_a_container_that_sees_its_own_group_as_the_root_has_its_limit(tmp_path: Path) -> None:
    (tmp_path / "groups").write_text("0::/path/on/the/host\n")
    (tmp_path / "memory.max").write_text("1000")
    (tmp_path / "memory.current").write_text("400")
    (tmp_path / "memory.stat").write_text("inactive_file 0")
    assert list(cgroup_rooms(tmp_path / "groups", tmp_path)) == [600]
