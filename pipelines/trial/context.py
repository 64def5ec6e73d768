"""The knowledge that all runs of a sweep share, and the resources of the worker that trains them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from research.measurement_cache import cached_measurement
from research.models.budget import Budget
from research.models.families import family_of
from research.models.kernels.attention_dispatch import kernel_for
from research.runtime import Runtime
from research.spec import ArchitectureSpec, OptimizerName, TrialSpec
from research.task.task import Task
from research.task.windows import WindowDataset
from research.tracking import schema
from research.tracking.provenance import Provenance
from research.tracking.store import Store
from research.training.matmul_peak import gemm_rate

DeviceGroup = tuple[torch.device, ...]
"""Devices of one worker. A trial that fits one device is trained on the first."""


@dataclass(frozen=True, kw_only=True)
class SweepContext:
    """Everything that the runs of a sweep share."""

    store: Store
    experiment_id: str
    parent_id: str
    """Run id of the sweep."""
    task: Task
    budget: Budget
    optimizer: OptimizerName
    """Optimizer of every trial of the sweep."""
    provenance: Provenance
    tags: dict[str, str]
    """Tags on all runs of the sweep."""
    checkpoints: Path
    """Folder with the checkpoints of running trials."""

    def portable(self) -> SweepContext:
        """Return a copy for another process, without an open connection to the store."""
        return replace(self, store=replace(self.store))

    def checkpoint_of(self, spec: TrialSpec) -> Path:
        """Return the path of a trial's checkpoint."""
        return self.checkpoints / f"{spec.fingerprint}.safetensors"


@dataclass(frozen=True, kw_only=True)
class WorkerResources:
    """The share of a machine that one worker may use. It can be sent to another process."""

    runtime: Runtime
    devices: DeviceGroup
    """Devices that one trial may be spread over, the runtime's own device first."""
    memory_share: float = 1.0
    """Part of the machine's free memory that one trial may plan with."""


@dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """A sweep and a worker that is ready to train its trials."""

    sweep: SweepContext
    resources: WorkerResources
    windows: WindowDataset
    """The task's windows. They are stored on the device once, for all trials of the process."""
    gemm_rate: float
    """Rate of large matrix products on the device, in operations per second."""

    @classmethod
    def build(cls, sweep: SweepContext, resources: WorkerResources) -> WorkerContext:
        """Copy the windows to the worker's device and measure its matrix products, unless the store's folder has the rate."""
        device, precision = resources.runtime.device, resources.runtime.precision
        rate = cached_measurement(
            sweep.checkpoints.parent, f"matrix products in {precision}", None, device, lambda: gemm_rate(device, precision)
        )
        return cls(sweep=sweep, resources=resources, windows=sweep.task.prepared.dataset(device), gemm_rate=rate)

    @property
    def runtime(self) -> Runtime:
        """Device, threads and precision."""
        return self.resources.runtime


def numerics_tags(runtime: Runtime, a: ArchitectureSpec) -> dict[str, str]:
    """Return the tags with the precision and attention kernel of a trial. They are no part of its identity."""
    if not family_of(a).attends:
        return {schema.PRECISION: runtime.precision}
    dtype = getattr(torch, runtime.precision)
    kernel = kernel_for(torch.empty(0, a.n_patches, 3, a.n_heads, a.d_model // a.n_heads, device=runtime.device, dtype=dtype))
    return {schema.PRECISION: runtime.precision, schema.ATTENTION: kernel}
