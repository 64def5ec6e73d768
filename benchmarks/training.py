"""Cost of a training step on one thread, compared with a plain PyTorch trainer and a published model of equal shape.

Every comparison is of processor time of the one thread, the sides in turns, so that other work on the machine hardly shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import patchtst
from benchmarks.gemm import gemm_peak
from benchmarks.harness import Measurement, cpu_in_turn, in_turn, one_thread, timed
from benchmarks.loop_adamw import LoopAdamW, give_gradients
from benchmarks.plain_trainer import PlainTrainer, Windows
from pipelines.executors.stack_size import windows_per_second
from research.errors import InputError
from research.models.accounting import training_flops
from research.models.kernels import native
from research.models.patch_transformer import PatchTransformer
from research.runtime import Precision, Runtime
from research.spec import ArchitectureSpec, TrainingSpec
from research.task.splits import Split
from research.task.windows import WindowDataset
from research.training.clipped_adamw import ClippedAdamW
from research.training.optim import build_optimizer
from research.training.trainer import Trainer, build_model

CPU = torch.device("cpu")
DAYS, FEATURES, CONTEXT = 1_500, 25, 60
ROUNDS = 7
PATCHTST_WINDOWS = 8
"""Of the published model's step: it takes the 25 columns as series of their own and 0.1 GB of activations a window."""
PATCHTST_ROUNDS = 2
MOST_OF_LOOP = 1 / 4


@dataclass(frozen=True, kw_only=True)
class BenchShape:
    """A measured architecture and its required gain over the plain trainer, without our kernels."""

    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    batch_size: int
    gain: float

    @property
    def architecture(self) -> ArchitectureSpec:
        """The reference window: 60 days of 25 features, 11 tokens."""
        return ArchitectureSpec(d_model=self.d_model, n_layers=self.n_layers, n_heads=self.n_heads, d_ff=self.d_ff)


SHAPES = (
    BenchShape(d_model=64, n_layers=48, n_heads=8, d_ff=256, batch_size=128, gain=1.15),
    BenchShape(d_model=192, n_layers=5, n_heads=8, d_ff=768, batch_size=64, gain=1.05),
    BenchShape(d_model=256, n_layers=26, n_heads=8, d_ff=1024, batch_size=64, gain=1.05),
    BenchShape(d_model=768, n_layers=4, n_heads=2, d_ff=1536, batch_size=64, gain=1.03),
)
STACKED = (
    ArchitectureSpec(d_model=8, n_layers=6, n_heads=1, d_ff=32),
    ArchitectureSpec(d_model=16, n_layers=4, n_heads=2, d_ff=64),
    ArchitectureSpec(d_model=64, n_layers=4, n_heads=4, d_ff=256),
)
STACK, STACK_BATCH = 8, 64


def training(_: Path, device: torch.device = CPU) -> list[Measurement]:
    """Measure a step: gather, forward, backward, clip, AdamW; dropout 0.1 in the same places."""
    if device.type == "cpu":
        peak = gemm_peak().float32
        return [row for shape in SHAPES for row in _steps(shape, peak)]
    return [row for shape in SHAPES for row in _steps_on(shape, device)]


def patch_tst(_: Path) -> list[Measurement]:
    """Measure against Hugging Face's PatchTST of equal layers and width, which has 25 times as many tokens per window."""
    if why := patchtst.missing():
        raise InputError(why)
    peak = gemm_peak().float32
    return [_beside_patchtst(shape, peak) for shape in SHAPES]


def optimizer(_: Path) -> list[Measurement]:
    """Measure the optimizer update of all parameters of a 48-layer network."""
    spec = _spec(SHAPES[0])
    models = [PatchTransformer(SHAPES[0].architecture) for _ in range(2)]
    for model in models:
        give_gradients(list(model.parameters()))
    adamw = build_optimizer(models[0].named_parameters(), spec, SHAPES[0].architecture)
    clipped = ClippedAdamW(adamw, list(models[0].parameters()), spec.gradient_clip)
    clipped.step()
    loop = LoopAdamW(
        list(models[1].parameters()), learning_rate=1e-3, betas=(0.9, 0.95), epsilon=1e-8, weight_decay=spec.weight_decay
    )
    ours, theirs, torch_only = cpu_in_turn([clipped.step, loop.step, adamw.step], 5 * ROUNDS)
    return [
        Measurement(
            name="AdamW of 48 layers, clipping included / a for-loop over its tensors, without clipping",
            seconds=ours,
            reference=theirs,
            most_ratio=MOST_OF_LOOP,
        ),
        Measurement(name="PyTorch's fused AdamW of 48 layers / the same for-loop", seconds=torch_only, reference=theirs),
    ]


def stacks(_: Path, device: torch.device = CPU) -> list[Measurement]:
    """Measure eight stacked trials against eight single ones, per window; a sweep stacks trials only if this pays."""
    rows = []
    with one_thread():
        for a in STACKED:
            alone, together = (1 / windows_per_second(a, STACK_BATCH, copies, device) for copies in (1, STACK))
            name = f"a window of {STACK} stacked trials, {a.label} / of one alone"
            rows.append(Measurement(name=name, seconds=together, reference=alone))
    return rows


def _steps(shape: BenchShape, peak: float) -> list[Measurement]:
    """Measure with and without our kernels, compared with the plain trainer."""
    a = shape.architecture
    with_kernels, torch_only = our_step(shape, CPU), _without_kernels(our_step(shape, CPU))
    fast, pure, reference = cpu_in_turn([with_kernels, torch_only, _plain(shape, CPU).run], ROUNDS)
    flops = shape.batch_size * training_flops(a)

    def named(who: str, seconds: float) -> str:
        share, beside = (flops / s / peak for s in (seconds, reference))
        return f"{a.label}, batch {shape.batch_size}: {who} ({share:.0%} of GEMM peak) / plain ({beside:.0%})"

    return [
        Measurement(name=named("PyTorch only", pure), seconds=pure, reference=reference, most_ratio=1 / shape.gain),
        Measurement(name=named("with kernels", fast), seconds=fast, reference=reference),
    ]


def _steps_on(shape: BenchShape, device: torch.device) -> list[Measurement]:
    """Measure wall time on an accelerator in float32 and bfloat16, compared with the plain trainer in float32."""
    works: list[Callable[[], object]] = [
        our_step(shape, device, "float32"),
        our_step(shape, device, "bfloat16"),
        _plain(shape, device).run,
    ]
    full, short, reference = in_turn([partial(_finished, work, device) for work in works], 3 * ROUNDS)
    return [
        Measurement(
            name=f"{shape.architecture.label}, batch {shape.batch_size}: {name} / plain", seconds=seconds, reference=reference
        )
        for name, seconds in (("float32", full), ("bfloat16", short))
    ]


def _finished(work: Callable[[], object], device: torch.device) -> float:
    def all_of_it() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    return timed(all_of_it)


def _without_kernels(step: Callable[[], None]) -> Callable[[], None]:
    def work() -> None:
        with native.switched_off():
            step()

    return work


def _plain(shape: BenchShape, device: torch.device) -> PlainTrainer:
    values, labels = _data()
    rows = np.arange(CONTEXT, CONTEXT + 4 * shape.batch_size)
    windows = Windows(values, labels.astype(np.float32), rows, CONTEXT)
    return PlainTrainer(windows, shape.architecture, _spec(shape), device)


def _beside_patchtst(shape: BenchShape, peak: float) -> Measurement:
    """Per window: its step is taken over fewer of them, which favours it where memory is short."""
    a = shape.architecture
    published = patchtst.PatchTst(a, batch_size=PATCHTST_WINDOWS)
    ours, theirs = cpu_in_turn([our_step(shape, CPU), published.step], PATCHTST_ROUNDS)
    ours, theirs = ours / shape.batch_size, theirs / PATCHTST_WINDOWS
    share = training_flops(a) / ours / peak
    published_share = patchtst.training_flops(a) / theirs / peak
    return Measurement(
        name=f"{a.label}, a window: ours ({a.n_patches} tokens, {share:.0%} of peak) / "
        f"PatchTST ({patchtst.tokens_per_window(a)} tokens, {published_share:.0%})",
        seconds=ours,
        reference=theirs,
    )


def our_step(shape: BenchShape, device: torch.device, precision: Precision = "float32") -> Callable[[], None]:
    """Return one optimizer step of the trainer."""
    values, labels = _data()
    spec, rows = _spec(shape), np.arange(CONTEXT, CONTEXT + 4 * shape.batch_size)
    split = Split(train=rows, validation=rows[:1], test=rows[:1])
    dataset = WindowDataset(values, labels, CONTEXT, device)
    runtime = Runtime(device=device, precision=precision)
    trainer = Trainer(build_model(shape.architecture, spec, device), dataset, split, spec, runtime)
    order = dataset.rows(np.random.default_rng(0).permutation(rows)[: shape.batch_size])

    def step() -> None:
        trainer.model.train()
        trainer.states[0].set_rate(0)
        trainer.step(order)

    return step


def _spec(shape: BenchShape) -> TrainingSpec:
    return TrainingSpec(
        learning_rate=1e-4,
        weight_decay=0.01,
        dropout=0.1,
        warmup_steps=1,
        batch_size=shape.batch_size,
        epochs=1,
        patience=1,
        seed=0,
    )


def _data() -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(0)
    return numbers.standard_normal((DAYS, FEATURES)).astype(np.float32), numbers.integers(0, 2, DAYS).astype(np.int8)
