"""Trains one shape in a process of its own and prints the bytes that this added at its peak.

Usage: peak_of_training.py d_model n_layers n_heads d_ff batch_size micro_batch
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from research.runtime import PeakMemory, Runtime
from research.spec import ArchitectureSpec, TrainingSpec
from research.training.trainer import EpochRecord, Trainer, build_model
from research.windows.dataset import EVALUATION_BATCH, WindowDataset
from research.windows.splits import Split

CPU = torch.device("cpu")
CONTEXT, FEATURES, STEPS, EPOCHS = 60, 25, 2, 2


class Silent:
    def on_step(self, step: int) -> None:
        pass

    def on_epoch(self, record: EpochRecord) -> None:
        pass


def main(d_model: int, n_layers: int, n_heads: int, d_ff: int, batch_size: int, micro_batch: int) -> None:
    torch.set_num_threads(1)
    borders = np.cumsum([CONTEXT - 1, STEPS * batch_size, EVALUATION_BATCH, 1])
    split = Split(**{name: np.arange(*borders[i : i + 2]) for i, name in enumerate(("train", "validation", "test"))})
    values = np.random.default_rng(0).standard_normal((borders[-1], FEATURES)).astype(np.float32)
    dataset = WindowDataset(values, (values[:, 0] > 0).astype(np.int8), CONTEXT, CPU)
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
    )
    memory = PeakMemory(CPU)
    before = memory.read()
    runtime = Runtime(device=CPU, threads=1, micro_batch=micro_batch)
    Trainer(build_model(architecture, training, CPU), dataset, split, training, runtime).run(Silent())
    print(memory.read() - before)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
