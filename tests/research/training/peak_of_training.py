"""Trains one shape in a process of its own and prints what this took at its peak.

Usage: peak_of_training.py resident|in_use d_model n_layers n_heads d_ff batch_size micro_batch optimizer

`resident`: bytes that the process grew by. `in_use`: bytes of all tensors that were there at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import accumulate

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from research.models.kernels import native
from research.models.kernels.attention_dispatch import using
from research.runtime import PeakMemory, Runtime
from research.spec import ArchitectureSpec, TrainingSpec
from research.task.splits import Split
from research.task.windows import EVALUATION_BATCH, WindowDataset
from research.training.trainer import Trainer, build_model
from research.training.trial_state import EpochRecord

CPU = torch.device("cpu")
CONTEXT, FEATURES, STEPS, EPOCHS = 60, 25, 2, 2


class Silent:
    def on_step(self, step: int) -> None:
        pass

    def on_epoch(self, record: EpochRecord) -> None:
        pass


def main(measure: str, *shape: str) -> None:
    torch.set_num_threads(1)
    *numbers, optimizer = shape
    d_model, n_layers, n_heads, d_ff, batch_size, micro_batch = map(int, numbers)
    architecture = ArchitectureSpec(d_model=d_model, n_layers=n_layers, n_heads=n_heads, d_ff=d_ff)
    training = TrainingSpec(
        learning_rate=1e-5,
        weight_decay=0.0,
        dropout=0.1,
        warmup_steps=0,
        batch_size=batch_size,
        epochs=EPOCHS,
        patience=EPOCHS,
        seed=0,
        optimizer="adafactor" if optimizer == "adafactor" else "adamw",
    )
    dataset, split = data(batch_size)

    def train() -> None:
        runtime = Runtime(device=CPU, threads=1, micro_batch=micro_batch)
        Trainer(build_model(architecture, training, CPU), dataset, split, training, runtime).run(Silent())

    ours = native.library() and native.attends(architecture.n_patches, d_model // n_heads)
    # On a busy machine the probe for the fastest kernel may end with another one, which takes other memory.
    with using("native" if ours else "sdpa"):
        print({"resident": resident, "in_use": in_use}[measure](train))


def data(batch_size: int) -> tuple[WindowDataset, Split]:
    borders = np.cumsum([CONTEXT - 1, STEPS * batch_size, EVALUATION_BATCH, 1])
    split = Split(**{name: np.arange(*borders[i : i + 2]) for i, name in enumerate(("train", "validation", "test"))})
    values = np.random.default_rng(0).standard_normal((borders[-1], FEATURES)).astype(np.float32)
    return WindowDataset(values, (values[:, 0] > 0).astype(np.int8), CONTEXT, CPU), split


def resident(train: Callable[[], None]) -> int:
    memory = PeakMemory(CPU)
    before = memory.read()
    train()
    return memory.read() - before


def in_use(train: Callable[[], None]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        train()
    assert profiled.profiler is not None
    assert profiled.profiler.kineto_results is not None
    changes = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())))


if __name__ == "__main__":
    main(*sys.argv[1:])
