"""Sizes and costs are counted: the closed forms agree with the built model for every architecture of every grid."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from research.errors import InputError
from research.models.accounting import forward_flops, parameter_count, training_flops
from research.models.budget import TOLERANCE, Budget, architectures_for, extremes, focused
from research.models.kernels.attention_dispatch import using
from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec

REFERENCE = {"2M": (80, 64), "20M": (65, 128), "200M": (115, 256), "2B": (60, 256)}
SMALL = ("2K", "6.3K", "20K", "63K", "200K", "630K")
EVERY = (*SMALL, *REFERENCE)

COUNTED_SHAPES = (
    ArchitectureSpec(d_model=4, n_layers=1, n_heads=1, d_ff=8),
    ArchitectureSpec(d_model=32, n_layers=2, n_heads=4, d_ff=128),
    ArchitectureSpec(d_model=16, n_layers=3, n_heads=2, d_ff=24, context_length=63, patch_length=10, patch_stride=5),
    ArchitectureSpec(d_model=12, n_layers=1, n_heads=3, d_ff=12, context_length=9, patch_length=9, n_features=3),
    ArchitectureSpec(
        d_model=8, n_layers=2, n_heads=8, d_ff=16, context_length=31, patch_length=4, patch_stride=1, n_features=7
    ),
)


@pytest.fixture
def unfilled_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building without filling: it changes no shape, and on the meta device it is 85% of the time."""
    for name in ("kaiming_uniform_", "uniform_", "normal_", "zeros_", "ones_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


def built_size(architecture: ArchitectureSpec) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in PatchTransformer(architecture).parameters())


@pytest.mark.parametrize("budget", REFERENCE)
def test_reference_budgets_have_their_grids(budget: str) -> None:
    architectures = architectures_for(Budget.parse(budget))
    assert (len(architectures), max(a.n_layers for a in architectures)) == REFERENCE[budget]
    assert len(set(architectures)) == len(architectures)


@pytest.mark.parametrize("budget", EVERY)
def test_every_grid_is_large_enough_and_within_the_tolerance(budget: str) -> None:
    wanted = Budget.parse(budget).n_parameters
    architectures = architectures_for(Budget.parse(budget))
    assert len(architectures) >= 10
    assert all(0.75 * wanted <= parameter_count(a) <= 1.25 * wanted for a in architectures)


@pytest.mark.usefixtures("unfilled_weights")
@pytest.mark.parametrize("window_norm", [False, True])
@pytest.mark.parametrize("budget", EVERY)
def test_counted_parameters_are_those_of_the_built_model(budget: str, window_norm: bool) -> None:
    template = ArchitectureSpec(d_model=4, n_layers=1, n_heads=1, d_ff=8, window_norm=window_norm)
    sizes: dict[tuple[int, int, int], int] = {}
    for a in architectures_for(Budget.parse(budget), template):
        shape = (a.d_model, a.n_layers, a.d_ff)
        if shape not in sizes:  # Heads split the width and own no parameter: the next test.
            sizes[shape] = built_size(a)
        assert parameter_count(a) == sizes[shape], a.label


def test_heads_own_no_parameter() -> None:
    shape = ArchitectureSpec(d_model=32, n_layers=2, n_heads=1, d_ff=64)
    sizes = {built_size(replace(shape, n_heads=heads)) for heads in (1, 2, 4, 8, 16, 32)}
    assert sizes == {parameter_count(shape)}


@pytest.mark.parametrize("window_norm", [False, True])
@pytest.mark.parametrize("architecture", COUNTED_SHAPES, ids=lambda a: f"{a.label} T{a.context_length}")
def test_closed_forms_hold_for_any_context_and_patch(architecture: ArchitectureSpec, window_norm: bool) -> None:
    a = replace(architecture, window_norm=window_norm)
    model = PatchTransformer(a)
    assert parameter_count(a) == sum(p.numel() for p in model.parameters())

    windows = 3
    x_BTF = torch.randn(windows, a.context_length, a.n_features)
    # torch counts nothing for fused kernels; the plain one does the same products.
    with using("plain"):
        with FlopCounterMode(display=False) as forward:
            model(x_BTF)
        with FlopCounterMode(display=False) as training:
            model(x_BTF).sum().backward()
    assert windows * forward_flops(a) == forward.get_total_flops()
    assert windows * training_flops(a) == training.get_total_flops()


@pytest.mark.parametrize("budget", EVERY)
def test_every_shape_of_a_grid_offers_the_same_heads(budget: str) -> None:
    heads: dict[tuple[int, int, int], set[int]] = defaultdict(set)
    for a in architectures_for(Budget.parse(budget)):
        heads[a.d_model, a.n_layers, a.d_ff].add(a.n_heads)
    offered = {1, 2, 4} if budget in SMALL else {2, 4, 8, 16, 32}
    assert all(one == offered for one in heads.values())


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("2M", 2_000_000),
        ("350K", 350_000),
        ("2B", 2_000_000_000),
        ("1.5M", 1_500_000),
        ("20000", 20_000),
        ("2m", 2_000_000),
        ("6.3k", 6_300),
        (" 2b ", 2_000_000_000),
    ],
)
def test_budgets_are_read_as_people_write_them(text: str, count: int) -> None:
    assert Budget.parse(text).n_parameters == count


@pytest.mark.parametrize(
    "text", ["banana", "0", "0M", "-1", "-2M", "", " ", "2X", "M", "2MM", "1e6", "2,000", "inf", "nan", ".5M"]
)
def test_what_is_no_budget_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match="BUDGET") as error:
        Budget.parse(text)
    assert f"BUDGET={text}:" in str(error.value)


@given(st.integers(1, 4_000_000_000))
@settings(deadline=None)
def test_a_label_reads_back_as_its_budget(count: int) -> None:
    budget = Budget(n_parameters=count)
    assert Budget.parse(budget.label) == budget


@pytest.mark.parametrize("text", ["20K", "6.3K", "2M", "1.5M", "200M", "2B", "999"])
def test_a_label_is_what_was_typed(text: str) -> None:
    assert Budget.parse(text).label == text


@given(st.integers(1, 10**10), st.floats(0, 2))
@settings(deadline=None)
def test_a_budget_admits_what_is_within_its_tolerance(count: int, share: float) -> None:
    size = round(count * share)
    assert Budget(n_parameters=count).admits(size) == (abs(size - count) <= TOLERANCE * count)


@pytest.mark.parametrize("text", ["1", "100", "100B"])
def test_a_budget_that_nothing_fits_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match=f"BUDGET={text}: no architecture"):
        architectures_for(Budget.parse(text))


def test_a_template_gives_context_patches_and_features() -> None:
    template = ArchitectureSpec(
        d_model=4, n_layers=1, n_heads=1, d_ff=8, context_length=120, patch_length=20, n_features=9, window_norm=True
    )
    for a in architectures_for(Budget.parse("20K"), template):
        assert replace(a, d_model=4, n_layers=1, n_heads=1, d_ff=8) == template


@pytest.mark.parametrize("budget", EVERY)
def test_extremes_are_the_deepest_and_the_widest(budget: str) -> None:
    architectures = architectures_for(Budget.parse(budget))
    deepest, widest = extremes(architectures)
    assert {deepest, widest} <= set(architectures)
    assert deepest.n_layers == max(a.n_layers for a in architectures)
    assert widest.d_model == max(a.d_model for a in architectures)
    # Of several equally deep ones the narrowest, of several equally wide ones the shallowest.
    assert deepest.d_model == min(a.d_model for a in architectures if a.n_layers == deepest.n_layers)
    assert widest.n_layers == min(a.n_layers for a in architectures if a.d_model == widest.d_model)


def test_a_single_architecture_is_one_extreme() -> None:
    only = COUNTED_SHAPES[0]
    assert extremes([only]) == [only]


def test_a_budget_that_the_grid_cannot_build_is_told_the_sizes_next_to_it():
    wide = ArchitectureSpec(d_model=1, n_layers=1, n_heads=1, d_ff=1, n_features=93)
    with pytest.raises(
        InputError, match=r"with 93 features; the nearest size is 3,9\d\d; give a budget near it, or other"
    ) as told:
        architectures_for(Budget.parse("3K"), wide)
    least = int(str(told.value).split("size is ")[1].split(";")[0].replace(",", ""))
    assert architectures_for(Budget(n_parameters=least), wide)


def test_a_grid_without_a_shape_near_the_budget_names_those_on_both_sides():
    shallow = focused(Budget.parse("2K").grid, depths=(1,))
    with pytest.raises(InputError, match=r"the nearest sizes are 1,\d{3} and 2,\d{3}; give a budget near these"):
        architectures_for(Budget.parse("2K"), ArchitectureSpec(d_model=1, n_layers=1, n_heads=1, d_ff=1), shallow)
