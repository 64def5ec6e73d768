"""Trials as Ray tasks, on this machine or a cluster; every worker logs to the same tracking server.

Ray only places and runs them: which trial comes next and whether a lost one is tried again is the driver's to say.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.executors.base import Watcher
from pipelines.job import Ended, Finished, Job
from pipelines.trial_record import Context
from research.spec import InputError
from research.training.trainer import EpochRecord

LOOK_SECONDS = 0.5
"""How often epochs are collected while waiting."""
GRACE_SECONDS = 20.0


class Desk:
    """Where tasks leave their epochs and the driver its wish to prune; lives in a Ray actor."""

    def __init__(self) -> None:
        self._epochs: list[tuple[str, EpochRecord]] = []
        self._pruned: set[str] = set()

    def report(self, name: str, record: EpochRecord) -> bool:
        """A task's epoch; False if it is to be pruned. The driver's answer to an epoch arrives with the next one."""
        self._epochs.append((name, record))
        return name not in self._pruned

    def collect(self) -> list[tuple[str, EpochRecord]]:
        """The epochs since the last time."""
        epochs, self._epochs = self._epochs, []
        return epochs

    def prune(self, name: str) -> None:
        """Ask for a task to stop."""
        self._pruned.add(name)


@dataclass(kw_only=True)
class RayTasks:
    """As many tasks as the cluster has room for."""

    context: Context
    address: str
    workers: int | None = None
    _slots: int = field(init=False)
    _running: dict[Any, Job] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        ray = _ray()
        _connect(ray, self.address)
        self._require_reachable(ray)
        gpus = 1 if self.context.runtime.device.type == "cuda" else 0
        cpus = self.context.runtime.threads
        room = _room(ray, cpus, gpus)
        self._slots = min(self.workers or room, room)
        nodes = max(len(ray.nodes()), 1)
        share = 1.0 if gpus else min(nodes / self._slots, 1.0)
        self._context = ray.put(replace(self.context.portable(), memory_share=share))
        self._desk = ray.remote(num_cpus=0)(Desk).remote()
        # Ray would run a lost task again by itself, without an attempt of its own in the record.
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(work)

    @property
    def slots(self) -> int:
        """As many as fit, or as were asked for."""
        return self._slots

    def submit(self, job: Job) -> None:
        """Queue the job as a task."""
        self._running[self._task.remote(self._context, job, self._desk)] = job

    def wait(self, watcher: Watcher) -> Ended:
        """The next result, or the next lost worker or node."""
        ray = _ray()
        while True:
            done, _ = ray.wait(list(self._running), timeout=LOOK_SECONDS)
            self._pass_on(watcher)
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

    def _pass_on(self, watcher: Watcher) -> None:
        ray = _ray()
        jobs = {job.name: job for job in self._running.values()}
        for name, record in ray.get(self._desk.collect.remote()):
            if name in jobs and not watcher.on_epoch(jobs[name], record):
                self._desk.prune.remote(name)

    def _ended(self, task: Any, job: Job) -> Ended:
        ray = _ray()
        try:
            result: Finished | str = ray.get(task)
        except ray.exceptions.RayTaskError as problem:
            raise problem.as_instanceof_cause() from None
        except ray.exceptions.RayError as problem:
            return Ended(job=job, lost=f"its Ray worker was lost ({type(problem).__name__})")
        if isinstance(result, str):
            raise InputError(result)
        return Ended(job=job, finished=result)

    def _require_reachable(self, ray: Any) -> None:
        here = {socket.gethostname(), "localhost"}
        away = [node["NodeManagerHostname"] for node in ray.nodes() if node["NodeManagerHostname"] not in here]
        if away and self.context.store.is_local:
            ray.shutdown()
            raise InputError(
                f"RAY={self.address}: the store is a local file that {away[0]} cannot reach; start a tracking server and "
                "set MLFLOW_TRACKING_URI to it (docs/scale-out.md)."
            )


def work(context: Context, job: Job, desk: Any) -> Finished | str:
    """A task: one trial. A mistake of the user's comes back as its sentence."""
    from pipelines.trial import run_trial

    ray = _ray()
    context.runtime.apply()
    try:
        return run_trial(context.on_device(), job, lambda record: bool(ray.get(desk.report.remote(job.name, record))))
    except InputError as mistake:
        return str(mistake)


def _connect(ray: Any, address: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "include_dashboard": False, "logging_level": "ERROR"}
    if address != "auto":
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as problem:
            sentence = str(problem).splitlines()[0]
            raise InputError(f"RAY={address}: no cluster answers there ({sentence}); give its address, or auto.") from None
        return
    try:
        ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    except ConnectionError:
        ray.init(**quiet)


def _room(ray: Any, cpus: int, gpus: int) -> int:
    """Trials that the cluster can hold at a time."""
    there = ray.cluster_resources()
    room = int(there.get("GPU", 0)) // gpus if gpus else int(there.get("CPU", 0)) // cpus
    if room < 1:
        needs = f"{gpus} GPU" if gpus else f"{cpus} CPUs"
        ray.shutdown()
        raise InputError(f"RAY: no node has the {needs} that a trial needs; give fewer --threads or another DEVICE.")
    return room


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError("RAY: Ray is not installed here; install it with `make setup-ray`, or leave RAY out.") from None
    return ray
