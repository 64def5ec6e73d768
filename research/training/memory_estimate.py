"""How much memory training takes, in closed form, before anything is allocated.

d width, L layers, n patches, T context days, F features, P patch length; what a block takes is its family's.
The terms for the CPU are held against measured trainings by tests/research/training/test_memory_estimate.py.
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
"""Bytes of a float32, which weights, gradients, moments and activations are; of a bfloat16 or of one number's random bits."""
MEBIBYTE = 2**20
FITTING_SHARE = 0.85
"""Share of the free memory that a plan may fill; the model is within 10% of the truth."""
CPU_LIBRARIES = 96 * MEBIBYTE
"""Code and tables that a process pages in with its first training step, whatever the model's size (x86, torch 2.13)."""
ALLOCATOR = 1.04
"""Resident bytes per planned byte on the CPU: what a malloc loses between large blocks."""
HOLES = 3
"""Streams per block that a malloc loses besides where only one per block stays: what lives for a moment lies between them, and
glibc before 2.38 does not give a freed chunk to an aligned request of the same size. Measured: 0 to 4."""
CUBLAS_WORKSPACE = 32 * MEBIBYTE
"""What CUBLAS_WORKSPACE_CONFIG=:4096:8, needed for deterministic products, sets aside."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Bytes of each part of a training."""

    weights: int
    gradients: int
    """Of all parameters; in low memory none outlives its own update."""
    optimizer: int
    """Moments."""
    activations: int
    """What one micro-batch leaves behind for its backward pass."""
    noise: int
    """Random bits of dropout, in a buffer that stays from step to step."""
    backward: int
    """What comes and goes on top of them in a backward pass, at most."""
    evaluation: int
    """Of an evaluation's forward pass, at most."""
    best_copy: int
    """The best epoch's weights, in the host's memory on every device."""
    holes: int
    """Of a malloc, between the tensors that stay."""
    workspace: int
    """What does not depend on the model."""
    accumulates: bool
    """Whether gradients are there already when a forward pass begins."""
    on_host: bool
    """Whether the device is the CPU, so that everything lies in the same memory."""
    devices: int = 1
    """Devices that share weights, gradients and moments; the parts above are those on each of them."""

    @property
    def state(self) -> int:
        """What lies on the device when a step ends."""
        return self.weights + self.gradients + self.optimizer

    @property
    def in_use(self) -> int:
        """Bytes of all tensors on the device at the peak: when a backward pass begins, when it ends, or in an evaluation."""
        kept = self.weights + self.optimizer + self.noise + self._best_here
        begins = self.activations + self.backward + (self.gradients if self.accumulates else 0)
        return kept + max(begins, self.gradients + max(self.backward, self.evaluation))

    @property
    def device(self) -> int:
        """Peak on the device: what torch has allocated there, on the CPU the resident set of the process.

        A caching allocator uses the activations' blocks again. A malloc keeps the holes that they leave, so that gradients
        and an evaluation come on top of them.
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
        """Peak in the host's memory; beside an accelerator the best copy and, while a checkpoint is written, all its parts.

        Of several devices that share a training, each has a process that first builds the whole model.
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
    """The parts of training with this micro-batch.

    Without a `batch_size` it is taken to be larger than the micro-batch, so that gradients add up over several passes.
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
        noise=micro_batch * _noise(a),
        backward=micro_batch * _backward(a) + (block_bytes(a) + (FLOAT + HALF) * widest if low else 0),
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
    """Bytes that training adds on the device to what is in use before the model is built."""
    return memory_plan(architecture, micro_batch, device, optimizer=optimizer, batch_size=batch_size).device


def micro_batches(batch_size: int) -> Iterable[int]:
    """The whole batch, then halves of it down to one window."""
    while batch_size >= 1:
        yield batch_size
        batch_size //= 2


def choose_micro_batch(
    architecture: ArchitectureSpec, batch_size: int, available: int, device: torch.device, *, optimizer: OptimizerName = "adamw"
) -> int | None:
    """The largest micro-batch whose peak fits into what is available; None where not even one window does.

    In low memory it is the whole batch or none: a parameter is updated within the one backward pass.
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
    """Per architecture and batch size the micro-batch to train with, None where the architecture does not fit."""
    sizes = tuple(batch_sizes)
    return {
        a: {size: choose_micro_batch(a, size, available, device, optimizer=optimizer) for size in sizes} for a in architectures
    }


def checkpoint_bytes(architecture: ArchitectureSpec, optimizer: OptimizerName = "adamw") -> int:
    """Size of a checkpoint file, at most: weights, moments and, unless they are the same, the best weights."""
    plan = memory_plan(architecture, 1, torch.device("cpu"), optimizer=optimizer)
    return plan.weights + plan.optimizer + plan.best_copy


def _kept(a: ArchitectureSpec, blocks: int) -> int:
    """Bytes that one window's forward pass keeps for backward, of so many blocks."""
    d, n = a.d_model, a.n_patches
    embedding = a.context_length * a.n_features + n * a.patch_length * a.n_features
    head = n * (2 * d + 2)
    return FLOAT * (embedding + blocks * family_of(a).kept(a) + head)


def _noise(a: ArchitectureSpec) -> int:
    """Bytes of the random bits of one window, for all sites."""
    return HALF * (1 + 2 * a.n_layers) * a.n_patches * a.d_model


def _streams(a: ArchitectureSpec) -> int:
    """Bytes of one window's stream before every block: all that is kept of a block that is computed again in backward."""
    return FLOAT * a.n_layers * a.n_patches * a.d_model


def _backward(a: ArchitectureSpec) -> int:
    """Bytes of one window that are alive at once in a block's backward pass."""
    return FLOAT * family_of(a).backward(a)


def _evaluated(a: ArchitectureSpec) -> int:
    """Bytes of one window that are alive at once in evaluation: its days, and the most that a block has."""
    return FLOAT * (a.context_length * a.n_features + family_of(a).evaluated(a))


def _low_memory_state(a: ArchitectureSpec) -> tuple[int, int]:
    """Bytes of weights and of moments: matrices in bfloat16 and a number per row and column, vectors in float32, twice."""
    d, n = a.d_model, a.n_patches
    level = [(d, 2 * a.n_features)] if a.window_norm else []
    symbols = [(a.n_symbols, d)] if a.n_symbols else []
    around = [(d, a.patch_length * a.n_features), (n, d), (1, n * d), *level, *symbols]
    matrices = around + a.n_layers * family_of(a).matrices(a)
    in_matrices = sum(map(prod, matrices))
    in_vectors = parameter_count(a) - in_matrices
    return HALF * in_matrices + FLOAT * in_vectors, FLOAT * (sum(map(sum, matrices)) + in_vectors)


def block_bytes(a: ArchitectureSpec) -> int:
    """A block's matrices in float32."""
    return FLOAT * sum(map(prod, family_of(a).matrices(a)))
