"""A family of models is one entry: its closed forms hold, and stacks, low memory and plans work on its blocks as they are."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from research.errors import InputError
from research.fingerprint import canonical_json, fingerprint
from research.models.accounting import forward_flops, parameter_count, training_flops
from research.models.budget import Budget, architectures_for
from research.models.families import FAMILIES, family_named, family_of
from research.models.kernels.attention_dispatch import using
from research.models.kernels.dropout import Dropout
from research.models.patch_transformer import PatchTransformer
from research.runtime import Runtime
from research.spec import TRANSFORMER, ArchitectureSpec, OptimizerName
from research.training.low_memory import to_low_memory
from research.training.memory_estimate import memory_plan
from research.training.time_estimate import TimeEstimator
from research.training.trainer import Trainer, build_model
from tests.research.training.peak_of_training import data, in_use
from tests.research.training.test_memory_estimate import saved_bytes
from tests.research.training.test_side_by_side import BASE, FOUR, alone, require_same, together
from tests.research.training.test_trainer import ARCHITECTURE, Listening
from tests.support.mixer_family import MIXER, MixerBlock, mixers

CPU = torch.device("cpu")
SHAPE = ArchitectureSpec(d_model=12, n_layers=3, n_heads=1, d_ff=24, n_features=5)
NAMES = (*FAMILIES, MIXER)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with mixers():
        yield


def windows(a: ArchitectureSpec, count: int = 3) -> torch.Tensor:
    return torch.randn(count, a.context_length, a.n_features, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_counted_parameters_and_operations_are_those_of_the_built_model(name: str) -> None:
    a = replace(SHAPE, family=name, n_symbols=2, window_norm=True)
    model, x_BTF, symbols_B = PatchTransformer(a), windows(a), torch.zeros(3, dtype=torch.int64)
    assert parameter_count(a) == sum(p.numel() for p in model.parameters())
    with using("plain"):
        with FlopCounterMode(display=False) as forward:
            model(x_BTF, symbols_B)
        with FlopCounterMode(display=False) as training:
            model(x_BTF, symbols_B).sum().backward()
    assert len(x_BTF) * forward_flops(a) == forward.get_total_flops()
    assert len(x_BTF) * training_flops(a) == training.get_total_flops()


@pytest.mark.parametrize("name", NAMES)
def test_planned_memory_of_a_block_is_that_of_the_built_one(name: str) -> None:
    a = replace(SHAPE, family=name)
    family, block = family_of(a), PatchTransformer(a).blocks[0]
    assert sorted(family.matrices(a)) == sorted(tuple(p.shape) for p in block.parameters() if p.ndim == 2)
    block = family.block(a, Dropout([0.1]), copies=())
    noise = torch.zeros(5, 2, a.n_patches, a.d_model, dtype=torch.int16)
    stream = torch.randn(5, a.n_patches, a.d_model, requires_grad=True) * 2
    with using("sdpa"):
        kept = saved_bytes(block, stream, noise)
    log_sums = 4 * 5 * a.n_heads * a.n_patches if family.attends else 0
    assert kept - log_sums - noise.nbytes == 4 * 5 * family.kept(a)


def peak_of(a: ArchitectureSpec) -> int:
    """Bytes of all tensors of a training that are there at once."""
    spec = replace(BASE, batch_size=64, dropout=0.1, epochs=2, patience=2, warmup_steps=0)
    windows_of_two_steps, split = data(spec.batch_size)

    def train() -> None:
        trainer = Trainer(build_model(a, spec, CPU), windows_of_two_steps, split, spec, Runtime(device=CPU, threads=1))
        trainer.run(Listening())

    with mixers(), using("sdpa"):
        return in_use(train)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_plan_is_within_10_percent_of_what_tensors_take(name: str) -> None:
    a = ArchitectureSpec(d_model=128, n_layers=8, n_heads=1, d_ff=512, family=name)
    # In a process of its own: what was there before and is freed would count against it.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        measured = pool.submit(peak_of, a).result()
    assert memory_plan(a, 64, CPU, batch_size=64).in_use / measured == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_low_memory_takes_what_is_planned(name: str) -> None:
    a = replace(SHAPE, family=name)
    model = to_low_memory(PatchTransformer(a, stored=torch.bfloat16))
    plan = memory_plan(a, 1, CPU, optimizer="adafactor")
    assert plan.weights == sum(p.numel() * p.element_size() for p in model.parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
@pytest.mark.parametrize("name", NAMES)
def test_every_family_trains(name: str, optimizer: OptimizerName) -> None:
    a = replace(ARCHITECTURE, n_heads=1, family=name)
    result = alone(replace(BASE, optimizer=optimizer, dropout=0.1, patience=8), a)
    assert result.epochs[-1].train_loss < result.epochs[0].train_loss - 0.02


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_is_each_of_its_trials(name: str) -> None:
    a = replace(ARCHITECTURE, n_heads=1, family=name, n_layers=2)
    # Over more epochs rounding would grow to more than what is told apart here.
    specs = [replace(spec, epochs=3) for spec in FOUR]
    for found, spec in zip(together(specs, a), specs, strict=True):
        require_same(found, alone(spec, a))


def test_what_a_model_says_goes_through_the_blocks_of_its_family() -> None:
    torch.manual_seed(0)
    model = PatchTransformer(replace(SHAPE, family=MIXER)).eval()
    torch.nn.init.normal_(model.head.weight)
    before = model(windows(SHAPE)).detach()
    for block in model.blocks:
        assert isinstance(block, MixerBlock)
        torch.nn.init.zeros_(block.mix.weight)
    assert not np.allclose(before, model(windows(SHAPE)).detach())


@pytest.mark.parametrize("name", NAMES)
def test_its_time_can_be_predicted(name: str) -> None:
    a = replace(SHAPE, family=name)
    assert TimeEstimator(CPU).trial(a, batch_size=8, micro_batch=4, windows=(64, 32), epochs=2) > 0


def test_a_budget_has_a_grid_in_each_family_and_one_head_without_attention() -> None:
    template = replace(SHAPE, n_features=25, family=MIXER)
    found = architectures_for(Budget.parse("20K"), template)
    assert len(found) >= 10
    assert {a.n_heads for a in found} == {1}
    assert {a.family for a in found} == {MIXER}
    assert found[0].label.startswith(f"{MIXER} d")


def test_a_family_is_identity_and_the_first_one_leaves_fingerprints_as_they_were() -> None:
    assert fingerprint(SHAPE) == fingerprint(replace(SHAPE, family=TRANSFORMER))
    assert "family" not in canonical_json(SHAPE)
    assert fingerprint(SHAPE) != fingerprint(replace(SHAPE, family=MIXER))


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"family=nothing: unknown family of models; give transformer or .*\."):
        family_named("nothing")
