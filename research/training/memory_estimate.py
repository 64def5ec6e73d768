"""Memory that training needs, in closed form, before anything is allocated.

d width, L layers, n patches, T context days, F features, P patch length; the terms of a block are its family's.
tests/research/training/test_memory_estimate.py compares the terms for the CPU with measured trainings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch

from research.models.accounting import parameter_count
from research.models.families import family_of
from research.spec import ArchitectureSpec, OptimizerName
from research.task.windows import EVALUATION_BATCH

FLOAT, HALF = 4, 2
"""Bytes of a float32 (weights, gradients, moments, activations), and of a bfloat16 or the random bits of one number."""
MEBIBYTE = 2**20
FITTING_SHARE = 0.85
"""Share of the free memory that a plan may fill; the estimate is within 10% of the measured peak."""
CPU_LIBRARIES = 96 * MEBIBYTE
"""Code and tables that a process pages in with its first training step, whatever the model's size (x86, torch 2.13)."""
ALLOCATOR = 1.04
"""Resident bytes per planned byte on the CPU: malloc loses some between large blocks."""
HOLES = 3
"""Additional streams per block that malloc loses if only one per block is kept. Short-lived tensors are between the kept ones,
and glibc before 2.38 does not give a freed chunk to an aligned request of the same size. Measured: 0 to 4."""
CUBLAS_WORKSPACE = 32 * MEBIBYTE
"""Memory reserved by CUBLAS_WORKSPACE_CONFIG=:4096:8, which deterministic products need."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Bytes of each part of a training."""

    weights: int
    gradients: int
    """Gradients of all parameters; none in low memory, where a gradient is freed by its update."""
    optimizer: int
    """Moments."""
    activations: int
    """Tensors that the forward pass of one micro-batch keeps for backward."""
    noise: int
    """Random bits of dropout, in a buffer that persists between steps."""
    backward: int
    """Peak of temporary tensors in a backward pass."""
    evaluation: int
    """Peak of an evaluation's forward pass."""
    best_copy: int
    """The best epoch's weights, which are in the host's memory for every device."""
    holes: int
    """Memory that malloc loses between the kept tensors."""
    workspace: int
    """Memory that does not depend on the model."""
    accumulates: bool
    """Whether gradients exist already when a forward pass begins."""
    on_host: bool
    """Whether the device is the CPU, so that everything is in the same memory."""
    devices: int = 1
    """Devices that share weights, gradients and moments; the parts above are per device."""

    @property
    def state(self) -> int:
        """Bytes on the device at the end of a step."""
        return self.weights + self.gradients + self.optimizer

    @property
    def in_use(self) -> int:
        """Bytes of all tensors on the device at the peak: when a backward pass begins, when it ends, or in an evaluation."""
        kept = self.weights + self.optimizer + self.noise + self._best_here
        begins = self.activations + self.backward + (self.gradients if self.accumulates else 0)
        return kept + max(begins, self.gradients + max(self.backward, self.evaluation))

    @property
    def device(self) -> int:
        """Peak on the device: the memory allocated by torch, on the CPU the resident set of the process.

        A caching allocator reuses the blocks of activations. malloc keeps the holes that they leave, so that gradients
        and an evaluation come on top.
        """
        if not self.on_host:
            return self.workspace + self.in_use
        parts = self.state + self._best_here + self.noise + self.activations + max(self.backward, self.evaluation)
        return self.workspace + self.holes + round(ALLOCATOR * parts)

    @property
    def _best_here(self) -> int:
        return self.best_copy if self.on_host else 0

    @property
    def host(self) -> int:
        """Peak in the host's memory; with an accelerator, the best copy and a checkpoint while it is written.

        If several devices share a training, the process of each first builds the whole model.
        """
        if self.on_host:
            return self.devices * self.device
        written = self.best_copy + self.devices * (self.weights + self.optimizer)
        return max(written, self.devices * self.best_copy if self.devices > 1 else 0)


def memory_plan(
    architecture: ArchitectureSpec,
    micro_batch: int,
    device: torch.device,
    *,
    optimizer: OptimizerName = "adamw",
    batch_size: int | None = None,
) -> MemoryPlan:
    """Return the memory plan of a training with this micro-batch.

    Without `batch_size` the batch counts as larger than the micro-batch, so that gradients accumulate over several passes.
    """
    a = architecture
    on_host = device.type == "cpu"
    low = optimizer == "adafactor"
    plain, widest = FLOAT * parameter_count(a), max(map(prod, family_of(a).matrices(a)))
    weights, moments = _low_memory_state(a) if low else (plain, 2 * plain)
    return MemoryPlan(
        weights=weights,
        gradients=0 if low else weights,
        optimizer=moments,
        activations=micro_batch * (_kept(a, 1) + _streams(a) if low else _kept(a, a.n_layers)),
        # Sixteen bits per number and dropout site.
        noise=micro_batch * HALF * (1 + 2 * a.n_layers) * a.n_patches * a.d_model,
        backward=micro_batch * FLOAT * family_of(a).backward(a) + (block_bytes(a) + (FLOAT + HALF) * widest if low else 0),
        evaluation=EVALUATION_BATCH * _evaluated(a) + (FLOAT * widest if low else 0),
        best_copy=weights,
        holes=HOLES * micro_batch * _streams(a) if low and on_host else 0,
        workspace={"cpu": CPU_LIBRARIES, "cuda": CUBLAS_WORKSPACE}.get(device.type, 0),
        accumulates=batch_size is None or batch_size > micro_batch,
        on_host=on_host,
    )


def peak_memory(
    architecture: ArchitectureSpec,
    micro_batch: int,
    device: torch.device,
    *,
    optimizer: OptimizerName = "adamw",
    batch_size: int | None = None,
) -> int:
    """Return the peak bytes that training adds on the device to the memory in use before the model is built."""
    return memory_plan(architecture, micro_batch, device, optimizer=optimizer, batch_size=batch_size).device


def micro_batches(batch_size: int) -> Iterable[int]:
    """Yield the whole batch, then halves of it down to one window."""
    while batch_size >= 1:
        yield batch_size
        batch_size //= 2


def choose_micro_batch(
    architecture: ArchitectureSpec, batch_size: int, available: int, device: torch.device, *, optimizer: OptimizerName = "adamw"
) -> int | None:
    """Return the largest micro-batch whose peak fits into `available` bytes; None if not even one window fits.

    In low memory only the whole batch is possible: parameters are updated within a single backward pass.
    """
    sizes = [batch_size] if optimizer == "adafactor" else micro_batches(batch_size)
    peaks = ((size, peak_memory(architecture, size, device, optimizer=optimizer, batch_size=batch_size)) for size in sizes)
    return next((size for size, peak in peaks if peak <= FITTING_SHARE * available), None)


def preflight(
    architectures: Iterable[ArchitectureSpec],
    batch_sizes: Iterable[int],
    device: torch.device,
    available: int,
    optimizer: OptimizerName = "adamw",
) -> dict[ArchitectureSpec, dict[int, int | None]]:
    """Return the micro-batch for each architecture and batch size; None if the architecture does not fit."""
    sizes = tuple(batch_sizes)
    return {
        a: {size: choose_micro_batch(a, size, available, device, optimizer=optimizer) for size in sizes} for a in architectures
    }


def checkpoint_bytes(architecture: ArchitectureSpec, optimizer: OptimizerName = "adamw") -> int:
    """Return the largest size of a checkpoint file: weights, moments and, unless they are the same, the best weights."""
    plan = memory_plan(architecture, 1, torch.device("cpu"), optimizer=optimizer)
    return plan.weights + plan.optimizer + plan.best_copy


def _kept(a: ArchitectureSpec, blocks: int) -> int:
    """Return the bytes that one window's forward pass through `blocks` blocks keeps for backward."""
    d, n = a.d_model, a.n_patches
    embedding = a.context_length * a.n_features + n * a.patch_length * a.n_features
    head = n * (2 * d + 2)
    return FLOAT * (embedding + blocks * family_of(a).kept(a) + head)


def _streams(a: ArchitectureSpec) -> int:
    """Return the bytes of one window's stream before every block, the only tensor kept for a recomputed block."""
    return FLOAT * a.n_layers * a.n_patches * a.d_model


def _evaluated(a: ArchitectureSpec) -> int:
    """Return the peak bytes of one window in evaluation: its days and the largest demand of a block."""
    return FLOAT * (a.context_length * a.n_features + family_of(a).evaluated(a))


def _low_memory_state(a: ArchitectureSpec) -> tuple[int, int]:
    """Return the bytes of weights and of moments: bfloat16 matrices with a number per row and column, float32 vectors."""
    d, n = a.d_model, a.n_patches
    level = [(d, 2 * a.n_features)] if a.window_norm else []
    symbols = [(a.n_symbols, d)] if a.n_symbols else []
    outside = [(d, a.patch_length * a.n_features), (n, d), (1, n * d), *level, *symbols]
    matrices = outside + a.n_layers * family_of(a).matrices(a)
    in_matrices = sum(map(prod, matrices))
    in_vectors = parameter_count(a) - in_matrices
    return HALF * in_matrices + FLOAT * in_vectors, FLOAT * (sum(map(sum, matrices)) + in_vectors)


def block_bytes(a: ArchitectureSpec) -> int:
    """Return the bytes of a block's matrices in float32."""
    return FLOAT * sum(map(prod, family_of(a).matrices(a)))
