"""Planned memory is what training really takes, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from research.models.accounting import parameter_count
from research.models.kernels.attention_dispatch import using
from research.models.kernels.dropout import Dropout
from research.models.layers import Block
from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec, OptimizerName
from research.training.memory_estimate import (
    FITTING_SHARE,
    MemoryPlan,
    checkpoint_bytes,
    choose_micro_batch,
    memory_plan,
    peak_memory,
    preflight,
)
from tests.support.verbs import ROOT

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = ArchitectureSpec(d_model=32, n_layers=3, n_heads=4, d_ff=64)
TWO_BILLION = ArchitectureSpec(d_model=2048, n_layers=48, n_heads=16, d_ff=4096)
GIBIBYTE = 2**30


def measured(what: str, *shape: int | str) -> int:
    """Bytes at the peak of a training."""
    command = [sys.executable, "-m", "tests.research.training.peak_of_training", what, *map(str, shape)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(ran.stdout)


def planned(
    d_model: int, n_layers: int, n_heads: int, d_ff: int, batch: int, micro: int, optimizer: OptimizerName
) -> MemoryPlan:
    architecture = ArchitectureSpec(d_model=d_model, n_layers=n_layers, n_heads=n_heads, d_ff=d_ff)
    return memory_plan(architecture, micro, CPU, optimizer=optimizer, batch_size=batch)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_the_plan_of_a_small_model_is_what_its_tensors_take(optimizer: OptimizerName) -> None:
    shape = (128, 16, 4, 512, 64, 64, optimizer)
    assert planned(*shape).in_use / measured("in_use", *shape) == pytest.approx(1, abs=0.1)


def test_the_plan_of_a_small_model_is_what_its_process_takes() -> None:
    # Two thirds of this peak depend on the shape: activations, an evaluation and the state of 3.2M parameters.
    shape = (128, 16, 4, 512, 64, 64, "adamw")
    assert planned(*shape).device / measured("resident", *shape) == pytest.approx(1, abs=0.1)


ADAMW_SHAPES = [
    pytest.param((192, 5, 4, 768, 64, 64, "adamw"), id="2M"),
    pytest.param((64, 48, 4, 256, 64, 64, "adamw"), id="2M deep and narrow"),
    pytest.param((64, 48, 4, 256, 256, 256, "adamw"), id="2M nearly all activations"),
    pytest.param((512, 6, 8, 2048, 16, 8, "adamw"), id="20M in two micro-batches"),
    pytest.param((512, 6, 8, 2048, 64, 64, "adamw"), id="20M"),
    pytest.param((2048, 2, 8, 8192, 8, 8, "adamw"), id="100M nearly all weights"),
]
LOW_MEMORY_SHAPES = [
    pytest.param((64, 48, 4, 256, 256, 256, "adafactor"), id="2M nearly all activations"),
    pytest.param((512, 48, 8, 1024, 64, 64, "adafactor"), id="100M deep"),
    pytest.param((2048, 4, 16, 4096, 64, 64, "adafactor"), id="130M nearly all weights"),
]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [*ADAMW_SHAPES, *LOW_MEMORY_SHAPES])
def test_the_plan_is_within_10_percent_of_what_tensors_take(shape: tuple[int, int, int, int, int, int, OptimizerName]) -> None:
    assert planned(*shape).in_use / measured("in_use", *shape) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ADAMW_SHAPES)
def test_the_plan_is_within_10_percent_of_what_a_process_takes(
    shape: tuple[int, int, int, int, int, int, OptimizerName],
) -> None:
    assert planned(*shape).device / measured("resident", *shape) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", LOW_MEMORY_SHAPES)
def test_in_low_memory_a_malloc_takes_about_what_is_planned(shape: tuple[int, int, int, int, int, int, OptimizerName]) -> None:
    # Between the few tensors that stay, a malloc loses more or less by chance.
    assert planned(*shape).device / measured("resident", *shape) == pytest.approx(1, abs=0.25)


def saved_bytes(module: torch.nn.Module, *inputs: torch.Tensor) -> int:
    """Bytes that autograd keeps for backward; parameters and dropout's own numbers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = module(*inputs)
    del result
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(("d_model", "n_heads", "d_ff"), [(32, 4, 64), (48, 2, 192)])
def test_activations_of_a_block_are_what_autograd_keeps(d_model: int, n_heads: int, d_ff: int) -> None:
    a = replace(SMALL, d_model=d_model, n_heads=n_heads, d_ff=d_ff)
    windows = 5
    block = Block(d_model, n_heads, d_ff, Dropout([0.1]))
    noise = torch.zeros(windows, 2, a.n_patches, d_model, dtype=torch.int16)
    # Twice, so that the input is a result that backward needs, as it is inside a model.
    stream = torch.randn(windows, a.n_patches, d_model, requires_grad=True) * 2
    with using("sdpa"):
        kept = saved_bytes(block, stream, noise)
    log_sums = 4 * windows * n_heads * a.n_patches  # Kept by this kernel alone.
    one, two = (memory_plan(replace(a, n_layers=layers), windows, CPU) for layers in (1, 2))
    assert two.activations - one.activations + two.noise - one.noise == kept - log_sums


def test_what_a_model_keeps_is_planned() -> None:
    windows = 5
    inputs = torch.randn(windows, SMALL.context_length, SMALL.n_features)
    model = PatchTransformer(SMALL, dropout=0.1)
    # The probe for the fastest kernel keeps something too.
    with using("sdpa"):
        kept = saved_bytes(model, inputs)
    plan = memory_plan(SMALL, windows, CPU)
    days = 4 * windows * SMALL.context_length * SMALL.n_features  # Held by the trainer, not by autograd.
    log_sums = 4 * windows * SMALL.n_heads * SMALL.n_patches * SMALL.n_layers  # Kept by this kernel alone.
    assert plan.activations + plan.noise - days == pytest.approx(kept - log_sums, rel=0.01)


def test_recomputing_keeps_the_stream_of_every_block_and_all_of_one() -> None:
    windows = 5
    model = PatchTransformer(SMALL, dropout=0.1)
    model.recompute = True
    with using("sdpa"):
        kept = saved_bytes(model, torch.randn(windows, SMALL.context_length, SMALL.n_features))
    plan, one = (memory_plan(replace(SMALL, n_layers=n), windows, CPU) for n in (3, 1))
    recomputing = memory_plan(SMALL, windows, CPU, optimizer="adafactor")
    no_blocks = 2 * one.activations - memory_plan(replace(SMALL, n_layers=2), windows, CPU).activations
    streams = recomputing.activations - one.activations
    days = 4 * windows * SMALL.context_length * SMALL.n_features
    assert recomputing.noise == plan.noise
    assert no_blocks + streams + recomputing.noise - days == pytest.approx(kept, rel=0.02)


def test_the_state_is_sixteen_bytes_a_parameter_and_the_best_copy_four_more() -> None:
    count = parameter_count(TWO_BILLION)
    on_cpu, on_cuda = (memory_plan(TWO_BILLION, 1, device) for device in (CPU, CUDA))
    assert on_cpu.state == on_cuda.state == 16 * count
    assert on_cpu.host == on_cpu.device
    assert 20 * count < on_cpu.device < 21.5 * count
    assert on_cuda.device < 17 * count
    # Beside an accelerator the best copy, and while a checkpoint is written the weights and moments too.
    assert on_cuda.host == 16 * count


def test_in_low_memory_the_state_is_two_bytes_a_parameter() -> None:
    count = parameter_count(TWO_BILLION)
    low = memory_plan(TWO_BILLION, 64, CPU, optimizer="adafactor")
    assert low.state / count == pytest.approx(2, rel=0.01)
    assert low.device < 12 * GIBIBYTE


def test_low_memory_weights_and_moments_are_those_of_the_built_model() -> None:
    for a in (SMALL, replace(SMALL, window_norm=True, n_symbols=3, d_ff=48)):
        model = PatchTransformer(a, stored=torch.bfloat16)
        plan = memory_plan(a, 1, CPU, optimizer="adafactor")
        assert plan.weights == sum(p.numel() * p.element_size() for p in model.parameters())
        assert plan.optimizer == sum(4 * (p.numel() if p.ndim == 1 else sum(p.shape)) for p in model.parameters())


def test_a_larger_micro_batch_takes_more_windows_and_nothing_else() -> None:
    one, many = memory_plan(SMALL, 1, CPU), memory_plan(SMALL, 64, CPU)
    assert many.activations == 64 * one.activations
    assert many == replace(one, activations=many.activations, noise=64 * one.noise, backward=64 * one.backward)


def test_gradients_are_there_beside_activations_only_if_they_add_up() -> None:
    whole, part = (memory_plan(SMALL, 512, CPU, batch_size=size) for size in (512, 1024))
    assert part.in_use - whole.in_use == part.gradients
    assert memory_plan(SMALL, 512, CPU) == part


def test_the_micro_batch_is_the_largest_half_that_fits() -> None:
    for wanted in (256, 128, 32, 1):
        room = peak_memory(SMALL, wanted, CPU, batch_size=256) / FITTING_SHARE
        assert choose_micro_batch(SMALL, 256, int(room) + 1, CPU) == wanted
        assert choose_micro_batch(SMALL, 256, int(room) - 1, CPU) == (wanted // 2 or None)


def test_halves_of_an_odd_batch_end_at_one_window() -> None:
    room = peak_memory(SMALL, 1, CPU) / FITTING_SHARE
    assert choose_micro_batch(SMALL, 100, int(room) + 1, CPU) == 1


def test_in_low_memory_the_batch_is_never_divided() -> None:
    room = peak_memory(TWO_BILLION, 64, CPU, optimizer="adafactor", batch_size=64) / FITTING_SHARE
    assert choose_micro_batch(TWO_BILLION, 64, int(room) + 1, CPU, optimizer="adafactor") == 64
    assert choose_micro_batch(TWO_BILLION, 64, int(room) - 1, CPU, optimizer="adafactor") is None


def test_the_preflight_says_which_architectures_cannot_be_trained() -> None:
    available = 10 * 10**9
    chosen = preflight([SMALL, TWO_BILLION], (64, 256), CPU, available)
    assert chosen == {SMALL: {64: 64, 256: 256}, TWO_BILLION: {64: None, 256: None}}


def test_a_checkpoint_holds_weights_moments_and_the_best_weights() -> None:
    count = parameter_count(TWO_BILLION)
    assert checkpoint_bytes(TWO_BILLION) == 16 * count
    assert checkpoint_bytes(TWO_BILLION, "adafactor") / count == pytest.approx(4, rel=0.01)
