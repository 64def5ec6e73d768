"""Whether a model of two billion parameters really trains here: whole steps in low memory, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from benchmarks.gemm import gemm_peak
from benchmarks.harness import Measurement
from research.errors import require
from research.models.accounting import forward_flops, parameter_count, training_flops
from research.runtime import DEFAULT_THREADS, PeakMemory, Precision, Runtime, available_memory
from research.spec import ArchitectureSpec, TrainingSpec
from research.task.splits import Split
from research.task.windows import WindowDataset
from research.training.memory_estimate import FITTING_SHARE, memory_plan
from research.training.precision import CLEARLY
from research.training.trainer import Trainer, build_model
from research.training.trial_state import EpochRecord

CPU = torch.device("cpu")
GIBIBYTE = 2**30
MOST_GIBIBYTES = 12
ARCHITECTURE = ArchitectureSpec(d_model=2048, n_layers=64, n_heads=16, d_ff=4096)
STEPS, VALIDATED = 2, 64
TRAINING = TrainingSpec(
    learning_rate=1e-4,
    weight_decay=0.1,
    dropout=0.1,
    warmup_steps=1,
    batch_size=64,
    epochs=1,
    patience=1,
    seed=0,
    optimizer="adafactor",
)


@dataclass(kw_only=True)
class Clock:
    """A listener that notes when steps end and what the epoch came to."""

    ends: list[float] = field(default_factory=lambda: [time.perf_counter()])
    losses: list[float] = field(default_factory=list)

    def on_step(self, step: int) -> None:
        """The moment a step ends."""
        self.ends.append(time.perf_counter())

    def on_epoch(self, record: EpochRecord) -> None:
        """Losses of the epoch."""
        self.losses += [record.train_loss, record.val_loss]

    @property
    def seconds(self) -> float:
        """Of a step, on average."""
        return mean(np.diff(self.ends))


def big(folder: Path) -> list[Measurement]:
    """Steps, an evaluation and the copy of the best weights, as a trial has them; beside the products alone and the plan."""
    plan = memory_plan(ARCHITECTURE, TRAINING.batch_size, CPU, optimizer=TRAINING.optimizer, batch_size=TRAINING.batch_size)
    enough = plan.device <= FITTING_SHARE * available_memory(CPU)
    needed = f"{plan.device / FITTING_SHARE / GIBIBYTE:.1f} GiB"
    require(enough, "BIG", 1, f"{needed} of free memory are needed; end other programs, or leave BIG out.")
    peak = gemm_peak()
    precision: Precision = "bfloat16" if peak.bfloat16 > CLEARLY * peak.float32 else "float32"
    command = [sys.executable, "-m", "benchmarks.train_2b", precision]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    (folder / "big.json").write_text(ran.stdout)
    found = json.loads(ran.stdout)
    what = f"{parameter_count(ARCHITECTURE) / 1e9:.2f}B parameters ({ARCHITECTURE.label}, batch {TRAINING.batch_size})"
    # Each block is computed once more in backward.
    flops = TRAINING.batch_size * (training_flops(ARCHITECTURE) + forward_flops(ARCHITECTURE))
    alone = flops / DEFAULT_THREADS / (peak.bfloat16 if precision == "bfloat16" else peak.float32)
    resident = found["resident"] / GIBIBYTE
    return [
        Measurement(name=f"a step of {what}, {precision} / its products alone", seconds=found["seconds"], reference=alone),
        Measurement(
            name="its process at the peak, GiB / planned", seconds=resident, reference=plan.device / GIBIBYTE, most_ratio=1.1
        ),
        Measurement(name="its process at the peak, GiB / allowed", seconds=resident, reference=MOST_GIBIBYTES, most_ratio=1.0),
    ]


def train(architecture: ArchitectureSpec, training: TrainingSpec, precision: Precision) -> dict[str, float]:
    """Seconds of a step, bytes that the process grew by, and losses."""
    memory = PeakMemory(CPU)
    before = memory.read()
    model = build_model(architecture, training, CPU)
    dataset, split = _data(architecture, STEPS * training.batch_size)
    clock = Clock()
    runtime = Runtime(device=CPU, precision=precision)
    Trainer(model, dataset, split, training, runtime).run(clock)
    train_loss, val_loss = clock.losses
    return {"seconds": clock.seconds, "resident": memory.read() - before, "train_loss": train_loss, "val_loss": val_loss}


def _data(architecture: ArchitectureSpec, windows: int) -> tuple[WindowDataset, Split]:
    """Noise, and as labels the sign of its first column on the newest day."""
    borders = np.cumsum([architecture.context_length - 1, windows, VALIDATED, 1])
    train, validation, test = (np.arange(*borders[i : i + 2]) for i in range(3))
    values = np.random.default_rng(0).standard_normal((borders[-1], architecture.n_features)).astype(np.float32)
    dataset = WindowDataset(values, (values[:, 0] > 0).astype(np.int8), architecture.context_length, CPU)
    return dataset, Split(train=train, validation=validation, test=test)


if __name__ == "__main__":
    print(json.dumps(train(ARCHITECTURE, TRAINING, "bfloat16" if sys.argv[1] == "bfloat16" else "float32")))
