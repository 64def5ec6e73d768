"""System metrics of the machine while a run trains: those of MLflow, and temperatures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from research.tracking import schema
from research.tracking.run_writer import RunLog

SAMPLE_SECONDS = 10.0
"""Seconds between two samples; a shorter run logs none."""
FIRST_SECONDS = 1.0
"""Seconds before the processor's first reading, which covers the time since the call before; at once it would be 0%."""
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu", "soc", "x86_pkg_temp")
"""Prefixes of the names of processor sensors; other sensors are those of mainboards, disks and radios."""


@contextmanager
def monitored(log: RunLog) -> Iterator[None]:
    """Log the machine's state to the run until the end of the block; a failing monitor stops nothing."""
    monitor = None
    with suppress(Exception):
        monitor = _Monitor(log)
        monitor.start()
    try:
        yield
    finally:
        if monitor is not None:
            monitor.finish()


def unknown_temperatures(device: str) -> dict[str, str]:
    """Return a tag for runs on a kind of device if the temperature of its processor or GPU cannot be read."""
    parts = ["cpu", "gpu"] if device == "cuda" else ["cpu"]
    known = temperatures()
    missing = [part for part in parts if not any(name.startswith(part) for name in known)]
    if not missing:
        return {}
    return {schema.TEMPERATURE: "unknown" if missing == parts else f"{missing[0]} unknown"}


def temperatures() -> dict[str, float]:
    """Return the hottest processor sensor and each GPU in degrees Celsius, without those that cannot be read."""
    return {**_of_cpu(), **_of_gpus()}


def _of_cpu() -> dict[str, float]:
    try:
        sensors = psutil.sensors_temperatures()
    except (AttributeError, OSError, RuntimeError):
        # psutil knows no sensors on macOS and Windows.
        return {}
    # A sensor that is not connected says zero.
    cpu_sensors = (sensor for name, parts in sensors.items() if name.startswith(CPU_SENSORS) for sensor in parts)
    degrees = [sensor.current for sensor in cpu_sensors if sensor.current > 0]
    return {"cpu_temperature_celsius": float(max(degrees))} if degrees else {}


def _of_gpus() -> dict[str, float]:
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        temperatures = [pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU) for handle in handles]
    except Exception:
        # The package is optional, and its errors exist only where it is installed.
        return {}
    return {f"gpu_{index}_temperature_celsius": float(degrees) for index, degrees in enumerate(temperatures)}


class _Temperatures(BaseMetricsMonitor):
    """Temperatures in the form of MLflow's own monitors."""

    def collect_metrics(self) -> None:
        for name, degrees in temperatures().items():
            self._metrics[name].append(degrees)

    def aggregate_metrics(self) -> dict[str, float]:
        return {name: max(values) for name, values in self._metrics.items()}


class _Monitor(SystemMetricsMonitor):
    """MLflow's monitor for one store and run, which stops silently when it fails."""

    def __init__(self, log: RunLog):
        logging.getLogger(SystemMetricsMonitor.__module__).setLevel(logging.CRITICAL)
        super().__init__(log.run_id, sampling_interval=SAMPLE_SECONDS, tracking_uri=log.store.uri)
        self.monitors.append(_Temperatures())

    def monitor(self) -> None:
        with suppress(Exception):
            psutil.cpu_percent()
            if not self._shutdown_event.wait(FIRST_SECONDS):
                super().monitor()
