"""What a trial needs to know besides its job."""

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
"""Devices of one worker; trials that fit one device are trained on the first."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every run of a sweep needs."""

    store: Store
    experiment_id: str
    task: Task
    budget: Budget
    optimizer: OptimizerName
    """What every trial of the sweep is trained with."""
    runtime: Runtime
    provenance: Provenance
    tags: dict[str, str]
    """Tags of the sweep, on all its runs."""
    checkpoints: Path
    """Folder of the running trials' states."""
    parent_id: str = ""
    """Run of the sweep; empty until it exists."""
    group: DeviceGroup = ()
    """Devices that a trial may be spread over, the runtime's own first; empty where there is that one only."""
    memory_share: float = 1.0
    """Part of this machine's free memory that one trial may plan with."""
    dataset: WindowDataset | None = None
    """The study's windows; they live on the device once, for all trials of a process."""
    gemm_rate: float = float("nan")
    """What large matrix products reach on the device, in operations per second."""

    @property
    def windows(self) -> WindowDataset:
        """The dataset of a context that is on its device."""
        assert self.dataset is not None
        return self.dataset

    def portable(self) -> Context:
        """A copy that another process can be sent: no open connection, nothing on a device."""
        return replace(self, store=replace(self.store), dataset=None)

    def on_device(self) -> Context:
        """A copy with the windows where the trials run, and with what that device can reach."""
        device, precision = self.runtime.device, self.runtime.precision
        rate = cached_measurement(
            self.checkpoints.parent, f"matrix products in {precision}", None, device, lambda: gemm_rate(device, precision)
        )
        return replace(self, dataset=self.task.prepared.dataset(device), gemm_rate=rate)

    def how_computed(self, a: ArchitectureSpec) -> dict[str, str]:
        """Tags that say what a trial's numbers were computed with; none of it is part of what it is."""
        precision = self.runtime.precision
        if not family_of(a).attends:
            return {schema.PRECISION: precision}
        device, dtype = self.runtime.device, getattr(torch, precision)
        kernel = kernel_for(torch.empty(0, a.n_patches, 3, a.n_heads, a.d_model // a.n_heads, device=device, dtype=dtype))
        return {schema.PRECISION: precision, schema.ATTENTION: kernel}

    def checkpoint_of(self, spec: TrialSpec) -> Path:
        """Where a trial's state is kept while it runs."""
        return self.checkpoints / f"{spec.fingerprint}.safetensors"
