"""Planned memory is what training really takes, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from research.models.accounting import parameter_count
from research.models.layers import Block
from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec
from research.training.memory import (
    FITTING_SHARE,
    checkpoint_bytes,
    choose_micro_batch,
    memory_plan,
    peak_memory,
    preflight,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = ArchitectureSpec(d_model=32, n_layers=3, n_heads=4, d_ff=64)
TWO_BILLION = ArchitectureSpec(d_model=2048, n_layers=48, n_heads=16, d_ff=4096)


def ratio_to_truth(d_model: int, n_layers: int, n_heads: int, d_ff: int, batch_size: int, micro_batch: int) -> float:
    """Planned over measured peak."""
    script = Path(__file__).with_name("peak_of_training.py")
    numbers = [str(number) for number in (d_model, n_layers, n_heads, d_ff, batch_size, micro_batch)]
    ran = subprocess.run([sys.executable, str(script), *numbers], capture_output=True, text=True, check=True)
    architecture = ArchitectureSpec(d_model=d_model, n_layers=n_layers, n_heads=n_heads, d_ff=d_ff)
    return peak_memory(architecture, micro_batch, CPU) / int(ran.stdout)


def test_the_plan_of_a_small_model_is_what_its_training_takes() -> None:
    # Three quarters of this peak depend on the shape: activations, an evaluation and the state of 3.2M parameters.
    assert ratio_to_truth(128, 16, 4, 512, batch_size=64, micro_batch=64) == pytest.approx(1, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((192, 5, 4, 768, 64, 64), id="2M"),
        pytest.param((64, 48, 4, 256, 64, 64), id="2M deep and narrow"),
        pytest.param((64, 48, 4, 256, 256, 256), id="2M nearly all activations"),
        pytest.param((512, 6, 8, 2048, 16, 8), id="20M in two micro-batches"),
        pytest.param((2048, 2, 8, 8192, 8, 8), id="100M nearly all weights"),
    ],
)
def test_the_plan_is_within_15_percent_of_what_training_takes(shape: tuple[int, ...]) -> None:
    assert ratio_to_truth(*shape) == pytest.approx(1, abs=0.15)


def saved_bytes(module: torch.nn.Module, inputs: torch.Tensor) -> int:
    """Bytes that autograd keeps for backward, parameters left out."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = module(inputs)
    del result
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(("d_model", "n_heads", "d_ff"), [(32, 4, 64), (48, 2, 192)])
def test_activations_of_a_block_are_what_autograd_keeps(d_model: int, n_heads: int, d_ff: int) -> None:
    a = replace(SMALL, d_model=d_model, n_heads=n_heads, d_ff=d_ff)
    windows = 5
    block = Block(d_model, n_heads, d_ff, dropout=0.1)
    # Twice, so that the input is a result that backward needs, as it is inside a model.
    kept = saved_bytes(block, torch.randn(windows, a.n_patches, d_model, requires_grad=True) * 2)
    per_block = activations(replace(a, n_layers=2), windows) - activations(replace(a, n_layers=1), windows)
    holes = 4 * 4 * d_model * a.n_patches * windows
    assert per_block - holes == kept


def test_activations_of_a_model_are_what_autograd_keeps() -> None:
    windows = 5
    inputs = torch.randn(windows, SMALL.context_length, SMALL.n_features)
    kept = saved_bytes(PatchTransformer(SMALL, dropout=0.1), inputs)
    days = 4 * windows * SMALL.context_length * SMALL.n_features  # Held by the trainer, not by autograd.
    holes = 4 * 4 * SMALL.d_model * SMALL.n_patches * windows * SMALL.n_layers
    assert activations(SMALL, windows) - holes - days == pytest.approx(kept, rel=0.01)


def activations(architecture: ArchitectureSpec, windows: int) -> int:
    return memory_plan(architecture, windows, CPU).activations


def test_the_state_is_sixteen_bytes_a_parameter_and_the_best_copy_four_more() -> None:
    count = parameter_count(TWO_BILLION)
    on_cpu, on_cuda = (memory_plan(TWO_BILLION, 1, device) for device in (CPU, CUDA))
    assert on_cpu.state == on_cuda.state == 16 * count
    assert on_cpu.host == on_cpu.device
    assert 20 * count < on_cpu.device < 21 * count
    assert on_cuda.device < 17 * count
    # Beside an accelerator the best copy, and while a checkpoint is written the weights and moments too.
    assert on_cuda.host == 16 * count


def test_a_larger_micro_batch_takes_more_activations_and_nothing_else() -> None:
    one, many = memory_plan(SMALL, 1, CPU), memory_plan(SMALL, 64, CPU)
    assert many.activations == 64 * one.activations
    assert many == replace(one, activations=many.activations)


def test_the_micro_batch_is_the_largest_half_that_fits() -> None:
    for wanted in (256, 128, 32, 1):
        room = peak_memory(SMALL, wanted, CPU) / FITTING_SHARE
        assert choose_micro_batch(SMALL, 256, int(room) + 1, CPU) == wanted
        assert choose_micro_batch(SMALL, 256, int(room) - 1, CPU) == (wanted // 2 or None)


def test_halves_of_an_odd_batch_end_at_one_window() -> None:
    room = peak_memory(SMALL, 1, CPU) / FITTING_SHARE
    assert choose_micro_batch(SMALL, 100, int(room) + 1, CPU) == 1


def test_the_preflight_says_which_architectures_cannot_be_trained() -> None:
    available = 10 * 10**9
    chosen = preflight([SMALL, TWO_BILLION], (64, 256), CPU, available)
    assert chosen == {SMALL: {64: 64, 256: 256}, TWO_BILLION: {64: None, 256: None}}


def test_a_checkpoint_holds_weights_moments_and_the_best_weights() -> None:
    assert checkpoint_bytes(SMALL) == 16 * parameter_count(SMALL)
