"""Trials as Ray tasks, on this machine or a cluster; every worker logs to the same tracking server.

Ray only places and runs tasks. The driver chooses the next trial and retries lost ones.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pipelines.trial.context import SweepContext, WorkerContext, WorkerResources
from pipelines.trial.job import Job, JobStack, StackResult, TrialResult
from pipelines.trial.run_listener import EpochCallback
from pipelines.trial.trial import run_stack
from research.errors import InputError
from research.runtime import Runtime
from research.tracking.store import Store
from research.training.trial_state import EpochRecord

LOOK_SECONDS = 0.5
"""Seconds between two collections of epochs."""
GRACE_SECONDS = 20.0
PROBE_SECONDS = 5.0
"""Time that a cluster may take to answer. Ray itself would try for minutes."""


class EpochMailbox:
    """Holds the epochs of tasks and the driver's requests to prune, in a Ray actor."""

    def __init__(self) -> None:
        self._epochs: list[tuple[str, EpochRecord]] = []
        self._pruned: set[str] = set()

    def report(self, name: str, record: EpochRecord) -> bool:
        """Add a task's epoch. Return False if it is to be pruned; the request arrives one epoch late."""
        self._epochs.append((name, record))
        return name not in self._pruned

    def collect(self) -> list[tuple[str, EpochRecord]]:
        """Return the epochs since the last call."""
        epochs, self._epochs = self._epochs, []
        return epochs

    def prune(self, name: str) -> None:
        """Request that a task stops at its next epoch."""
        self._pruned.add(name)


def connect(address: str, store: Store) -> None:
    """Join the cluster at `address`, or start Ray on this machine if `auto` finds none."""
    ray = _ray()
    if ray.is_initialized():
        return
    address = _cluster(address)
    # Ray replaces our handler, which closes the runs, with its own.
    on_sigterm = signal.getsignal(signal.SIGTERM)
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, str(error).splitlines()[0]) from None
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)
    away = {node["NodeManagerHostname"] for node in _nodes(ray)} - {socket.gethostname(), "localhost"}
    if away and store.is_local:
        ray.shutdown()
        raise InputError(
            f"RAY={address}: the store is a local file that {min(away)} cannot reach; start a tracking server and "
            "set MLFLOW_TRACKING_URI to it (docs/scale-out.md)."
        )


@dataclass(kw_only=True)
class RayTasks:
    """Trains as many stacks at a time as the connected cluster has room for."""

    sweep: SweepContext
    runtime: Runtime
    workers: int | None = None
    _slots: int = field(init=False)
    _running: dict[Any, JobStack] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        ray = _ray()
        runtime = self.runtime
        gpus = 1 if runtime.device.type == "cuda" else 0
        rooms = _rooms(ray, runtime.threads, gpus)
        self._slots = min(self.workers or sum(rooms), sum(rooms))
        # Ray shows a task only the GPU that it was given, under the index 0.
        runtime = replace(runtime, device=torch.device("cuda")) if gpus else runtime
        share = 1.0 if gpus else 1 / min(max(rooms), self._slots)
        self._sweep = ray.put(self.sweep.portable())
        self._resources = WorkerResources(runtime=runtime, devices=(runtime.device,), memory_share=share)
        # With the driver: a mailbox on another node could be lost while the driver lives.
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        here = affinity(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(EpochMailbox).remote()
        # Ray would run a lost task again by itself, without an attempt of its own in the record.
        self._task = ray.remote(num_cpus=runtime.threads, num_gpus=gpus, max_retries=0)(work)

    @property
    def slots(self) -> int:
        """Number of tasks that fit, or `workers` if that is smaller."""
        return self._slots

    def submit(self, stack: JobStack) -> None:
        """Queue the stack as a task."""
        self._running[self._task.remote(self._sweep, self._resources, stack, self._mailbox)] = stack

    def wait(self, report: EpochCallback) -> StackResult:
        """Return the next result, or the next lost worker or node."""
        ray = _ray()
        while True:
            done, _ = ray.wait(list(self._running), timeout=LOOK_SECONDS)
            self._report_epochs(report)
            if done:
                return self._ended(done[0], self._running.pop(done[0]))

    def close(self) -> None:
        """Interrupt running tasks, let them close their runs, leave the cluster."""
        ray = _ray()
        for task in self._running:
            ray.cancel(task)
        if self._running:
            ray.wait(list(self._running), num_returns=len(self._running), timeout=GRACE_SECONDS)
        self._running.clear()
        ray.shutdown()

    def _report_epochs(self, report: EpochCallback) -> None:
        ray = _ray()
        jobs = {job.name: job for stack in self._running.values() for job in stack}
        for name, record in ray.get(self._mailbox.collect.remote()):
            if name in jobs and not report(jobs[name], record):
                self._mailbox.prune.remote(name)

    def _ended(self, task: Any, stack: JobStack) -> StackResult:
        ray = _ray()
        try:
            result: tuple[TrialResult, ...] | InputError = ray.get(task)
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except ray.exceptions.RayError as error:
            return StackResult(stack=stack, lost=f"its Ray worker was lost ({type(error).__name__})")
        if isinstance(result, InputError):
            raise result
        return StackResult(stack=stack, results=result)


def work(
    sweep: SweepContext, resources: WorkerResources, stack: JobStack, mailbox: Any
) -> tuple[TrialResult, ...] | InputError:
    """Train one stack as a Ray task. A user's error is returned, since raising it would add Ray's traceback."""
    ray = _ray()
    resources.runtime.apply()

    def report(job: Job, record: EpochRecord) -> bool:
        return bool(ray.get(mailbox.report.remote(job.name, record)))

    try:
        return run_stack(WorkerContext.build(sweep, resources), stack, report)
    except InputError as error:
        return error


def _cluster(address: str) -> str:
    """Return the address of a cluster that answers, or `local` if `auto` finds none."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
    if address != "auto":
        return _answering(address)
    # `ray start` leaves its address there, and a machine that crashed leaves it behind.
    noted = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray", "ray_current_cluster")
    try:
        return _answering(noted.read_text().strip())
    except (OSError, InputError):
        return "local"


def _answering(address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), PROBE_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, str(error)) from None
    return address


def _no_cluster(address: str, why: str) -> InputError:
    fix = "give host:port as `ray start` prints it, or auto (docs/scale-out.md)."
    return InputError(f"RAY={address}: no cluster answers there ({why}); {fix}")


def _nodes(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _rooms(ray: Any, cpus: int, gpus: int) -> list[int]:
    """Return the number of trials that each node can train at a time."""
    what, needed = ("GPU", gpus) if gpus else ("CPU", cpus)
    rooms = [int(node["Resources"].get(what, 0)) // needed for node in _nodes(ray)]
    if not any(rooms):
        raise InputError(f"RAY: no node has the {needed} {what}s that a trial needs; give fewer --threads or another DEVICE.")
    return rooms


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError("RAY: Ray is not installed here; install it with `make setup-ray`, or leave RAY out.") from None
    return ray
