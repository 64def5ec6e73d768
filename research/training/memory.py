"""How much memory training takes, in closed form, before anything is allocated.

d width, L layers, f feed-forward width, H heads, n patches, T context days, F features, P patch length.
The terms for the CPU are held against measured trainings by tests/training/test_memory.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from research.models.accounting import parameter_count
from research.spec import ArchitectureSpec
from research.windows.dataset import EVALUATION_BATCH

FLOAT = 4
"""Bytes of a number; weights, gradients, moments and activations are all float32."""
MEBIBYTE = 2**20
FITTING_SHARE = 0.85
"""Share of the free memory that a plan may fill; the model is within 15% of the truth."""
CPU_LIBRARIES = 96 * MEBIBYTE
"""Code and tables that a process pages in with its first training step, whatever the model's size (x86, torch 2.13)."""
CUBLAS_WORKSPACE = 32 * MEBIBYTE
"""What CUBLAS_WORKSPACE_CONFIG=:4096:8, needed for deterministic products, sets aside."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Bytes of each part at a training's peak."""

    weights: int
    gradients: int
    optimizer: int
    """Two moments."""
    activations: int
    """What one micro-batch leaves behind for its backward pass, and what the allocator loses to it."""
    evaluation: int
    """Of an evaluation's forward pass, at most."""
    best_copy: int
    """The best epoch's weights, in the host's memory on every device."""
    workspace: int
    """What does not depend on the model."""
    on_host: bool
    """Whether the device is the CPU, so that everything lies in the same memory."""

    @property
    def state(self) -> int:
        """What lies on the device from the first step to the last."""
        return self.weights + self.gradients + self.optimizer

    @property
    def device(self) -> int:
        """Peak on the device.

        A malloc keeps the holes that activations leave, so an evaluation comes on top of them. A caching allocator uses
        the activations' blocks again.
        """
        if self.on_host:
            return self.workspace + self.state + self.best_copy + self.activations + self.evaluation
        return self.workspace + self.state + max(self.activations, self.evaluation)

    @property
    def host(self) -> int:
        """Peak in the host's memory; beside an accelerator the best copy and, while a checkpoint is written, all its parts."""
        if self.on_host:
            return self.device
        return self.best_copy + self.weights + self.optimizer


def memory_plan(architecture: ArchitectureSpec, micro_batch: int, device: torch.device) -> MemoryPlan:
    """The parts of the peak of training with this micro-batch."""
    weights = FLOAT * parameter_count(architecture)
    on_host = device.type == "cpu"
    per_window = _saved(architecture, on_host) + (0 if on_host else _backward(architecture))
    return MemoryPlan(
        weights=weights,
        gradients=weights,
        optimizer=2 * weights,
        activations=FLOAT * micro_batch * per_window,
        evaluation=FLOAT * EVALUATION_BATCH * _evaluated(architecture),
        best_copy=weights,
        workspace={"cpu": CPU_LIBRARIES, "cuda": CUBLAS_WORKSPACE}.get(device.type, 0),
        on_host=on_host,
    )


def peak_memory(architecture: ArchitectureSpec, micro_batch: int, device: torch.device) -> int:
    """Bytes that training adds on the device to what is in use before the model is built."""
    return memory_plan(architecture, micro_batch, device).device


def micro_batches(batch_size: int) -> Iterable[int]:
    """The whole batch, then halves of it down to one window."""
    while batch_size >= 1:
        yield batch_size
        batch_size //= 2


def choose_micro_batch(architecture: ArchitectureSpec, batch_size: int, available: int, device: torch.device) -> int | None:
    """The largest micro-batch whose peak fits into what is available; None where not even one window does."""
    room = FITTING_SHARE * available
    return next((size for size in micro_batches(batch_size) if peak_memory(architecture, size, device) <= room), None)


def preflight(
    architectures: Iterable[ArchitectureSpec], batch_sizes: Iterable[int], device: torch.device, available: int
) -> dict[ArchitectureSpec, dict[int, int | None]]:
    """Per architecture and batch size the micro-batch to train with, None where the architecture does not fit."""
    sizes = tuple(batch_sizes)
    return {a: {size: choose_micro_batch(a, size, available, device) for size in sizes} for a in architectures}


def checkpoint_bytes(architecture: ArchitectureSpec) -> int:
    """Size of a checkpoint file, at most: weights, two moments and, unless they are the same, the best weights."""
    return 4 * FLOAT * parameter_count(architecture)


def _saved(a: ArchitectureSpec, on_host: bool) -> int:
    """Numbers that one window's forward pass keeps for backward.

    Per token of a block: each of the two norms its input d and two statistics; the products their inputs d (qkv),
    d (out), d (expand), f (contract); attention q, k, v 3d, and H log-sums (its output is the input of out); GELU its
    input f; each of the two dropouts a mask d. That is 10d + 2f + H + 4.

    The CPU writes dropout's mask as floats, CUDA as bytes. On the CPU come the four results of width d that a block
    frees at once (two branches, before and after dropout): glibc before 2.38 does not give a freed chunk
    to an aligned request of the same size, so each stays behind as a hole.
    """
    d, n = a.d_model, a.n_patches
    mask = d if on_host else d // 4
    holes = 4 * d if on_host else 0
    block = 8 * d + 2 * mask + 2 * a.d_ff + a.n_heads + 4 + holes
    embedding = a.context_length * a.n_features + n * (a.patch_length * a.n_features + mask)
    head = n * (2 * d + 2)
    return embedding + a.n_layers * n * block + head


def _backward(a: ArchitectureSpec) -> int:
    """Numbers of one window that are alive at once in backward: gradients at both ends of GELU and of the stream."""
    return a.n_patches * (2 * a.d_ff + 4 * a.d_model)


def _evaluated(a: ArchitectureSpec) -> int:
    """Numbers of one window that are alive at once in evaluation: its days, two streams, both ends of GELU."""
    return a.context_length * a.n_features + a.n_patches * (2 * a.d_model + 2 * a.d_ff)
