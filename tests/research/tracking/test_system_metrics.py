from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import psutil
import pytest
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from research.tracking import query, schema
from research.tracking import system_metrics as monitor
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store
from research.tracking.system_metrics import monitored, temperatures, unknown_temperatures

CPU = {"coretemp": [41.0, 67.0, 0.0], "nvme": [90.0], "acpitz": [27.8]}


@pytest.fixture
def store(store_root: Path) -> Store:
    return open_store(store_root)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples every tenth of a second."""
    monkeypatch.setattr(monitor, "SAMPLE_SECONDS", 0.1)
    monkeypatch.setattr(monitor, "FIRST_SECONDS", 0.1)


def start(store: Store) -> RunLog:
    return RunLog.start(store, experiment_id=store.experiment("e"), kind="trial", name="0000", params={}, tags={})


def sensors(monkeypatch: pytest.MonkeyPatch, found: dict[str, list[float]]) -> None:
    readings = {name: [SimpleNamespace(current=degrees) for degrees in ones] for name, ones in found.items()}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: readings, raising=False)


def gpus(monkeypatch: pytest.MonkeyPatch, *degrees: int) -> None:
    """As many GPUs as temperatures; without any, the package is not installed."""
    fake = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: len(degrees),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTemperature=lambda handle, _: degrees[handle],
        NVML_TEMPERATURE_GPU=0,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake if degrees else None)


def work_until(enough: Callable[[], bool]) -> None:
    """Keep the processor busy until it is enough, or for twenty seconds."""
    give_up_at = time.monotonic() + 20
    while not enough() and time.monotonic() < give_up_at:
        sum(range(100_000))


def logged(store: Store, log: RunLog) -> dict[str, float]:
    return dict(store.client.get_run(log.run_id).data.metrics)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]


@pytest.mark.usefixtures("quick")
def test_the_machine_is_logged_to_the_runs_own_store_and_nowhere_else(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensors(monkeypatch, CPU)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}/other.db")
    log = start(store)
    with monitored(log):
        work_until(lambda: "system/cpu_temperature_celsius" in logged(store, log))
    found = logged(store, log)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_percentage"} <= found.keys()
    assert found["system/cpu_temperature_celsius"] == 67.0
    first = min(query.histories(store, [log.run_id], "system/cpu_utilization_percentage")[log.run_id].items())
    assert first[1] > 0
    assert list(elsewhere.iterdir()) == []


def test_a_short_run_logs_nothing_and_leaves_no_thread(store: Store) -> None:
    log = start(store)
    with monitored(log):
        assert threads()
    assert not threads()
    assert logged(store, log) == {}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("problem", [ValueError("training failed"), KeyboardInterrupt()])
def test_a_training_that_fails_is_no_longer_watched_and_fails_as_it_did(store: Store, problem: BaseException) -> None:
    with pytest.raises(type(problem)) as raised, monitored(start(store)):
        raise problem
    assert raised.value is problem
    assert not threads()


@pytest.mark.usefixtures("quick")
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("broken", ["__init__", "collect_metrics", "publish_metrics"])
def test_a_monitor_that_fails_costs_the_training_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], broken: str
) -> None:
    failed = threading.Event()

    def fail(*_: object, **__: object) -> NoReturn:
        failed.set()
        raise RuntimeError("no such counter")

    monkeypatch.setattr(SystemMetricsMonitor, broken, fail)
    log = start(store)
    capfd.readouterr()
    with monitored(log):
        assert failed.wait(20)
    log.finish("complete")
    assert capfd.readouterr() == ("", "")


def test_the_processors_temperature_is_its_hottest_sensors_and_no_other_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch)
    sensors(monkeypatch, CPU)
    assert temperatures() == {"cpu_temperature_celsius": 67.0}
    gpus(monkeypatch, 55, 71)
    assert temperatures() == {
        "cpu_temperature_celsius": 67.0,
        "gpu_0_temperature_celsius": 55.0,
        "gpu_1_temperature_celsius": 71.0,
    }


@pytest.mark.parametrize("found", [{}, {"nvme": [40.0]}, {"coretemp": [0.0]}, {"coretemp": []}, None])
def test_a_temperature_that_cannot_be_read_is_unknown_and_not_zero(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, list[float]] | None
) -> None:
    gpus(monkeypatch)
    if found is None:
        monkeypatch.delattr(psutil, "sensors_temperatures", raising=False)
    else:
        sensors(monkeypatch, found)
    assert temperatures() == {}
    assert unknown_temperatures("cpu") == {"temperature": "unknown"}


@pytest.mark.parametrize(
    ("device", "cpu", "gpu", "tag"),
    [
        ("cpu", True, False, None),
        ("cpu", False, True, "unknown"),
        ("cuda", True, True, None),
        ("cuda", True, False, "gpu unknown"),
        ("cuda", False, True, "cpu unknown"),
        ("cuda", False, False, "unknown"),
    ],
)
def test_the_tag_says_which_part_is_unknown(
    monkeypatch: pytest.MonkeyPatch, device: str, cpu: bool, gpu: bool, tag: str | None
) -> None:
    sensors(monkeypatch, CPU if cpu else {})
    gpus(monkeypatch, *((60,) if gpu else ()))
    assert unknown_temperatures(device).get(schema.TEMPERATURE) == tag
