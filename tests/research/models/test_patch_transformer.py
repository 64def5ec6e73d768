"""The model sees the newest day, starts at log 2 at every size, and loses no level to window normalisation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from research.models.layers import Attention
from research.models.patch_transformer import PatchTransformer, remove_level
from research.spec import ArchitectureSpec

TINY = ArchitectureSpec(d_model=16, n_layers=2, n_heads=4, d_ff=32, n_features=5)
ODD = replace(TINY, context_length=63)


def awake(architecture: ArchitectureSpec, seed: int = 0) -> PatchTransformer:
    """A model whose head listens; at initialisation it is zero and every logit with it."""
    torch.manual_seed(seed)
    model = PatchTransformer(architecture).eval()
    nn.init.normal_(model.head.weight, std=model.head.in_features**-0.5)
    return model


def windows(architecture: ArchitectureSpec, batch: int = 4, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, architecture.context_length, architecture.n_features, generator=generator)


@st.composite
def patched(draw: st.DrawFn) -> ArchitectureSpec:
    length = draw(st.integers(1, 12))
    return replace(
        TINY,
        patch_length=length,
        patch_stride=draw(st.integers(1, 15)),
        context_length=length + draw(st.integers(0, 50)),
        n_features=draw(st.integers(1, 4)),
    )


@given(patched())
@settings(deadline=None, max_examples=50)
def test_patches_are_aligned_to_the_newest_day(a: ArchitectureSpec) -> None:
    x_BTF = windows(a, batch=2)
    patches = PatchTransformer(a).patches(x_BTF)
    assert patches.shape == (2, a.n_patches, a.patch_length * a.n_features)
    for back in range(a.n_patches):
        end = a.context_length - back * a.patch_stride
        assert torch.equal(patches[:, -1 - back], x_BTF[:, end - a.patch_length : end].flatten(1))
    # No further patch would have fitted.
    assert a.context_length - a.n_patches * a.patch_stride < a.patch_length


@pytest.mark.parametrize("day", [0, 1, 2])
def test_oldest_days_that_fill_no_patch_are_dropped(day: int) -> None:
    model, x_BTF = awake(ODD), windows(ODD)
    changed = x_BTF.clone()
    changed[:, day] += 10
    assert torch.equal(model(x_BTF), model(changed))


@pytest.mark.parametrize("day", [3, 30, 59, 60, 61, 62])
def test_every_later_day_moves_the_logit(day: int) -> None:
    model, x_BTF = awake(ODD), windows(ODD)
    changed = x_BTF.clone()
    changed[:, day] += 10
    assert ((model(x_BTF) - model(changed)).abs() > 1e-4).all()


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("window_norm", [False, True])
def test_one_logit_per_window(batch: int, window_norm: bool) -> None:
    a = replace(TINY, window_norm=window_norm)
    assert awake(a)(windows(a, batch)).shape == (batch,)


@pytest.mark.parametrize("window_norm", [False, True])
@pytest.mark.parametrize(("width", "depth"), [(4, 1), (64, 2), (8, 64)])
def test_first_loss_is_log_two_at_every_size(width: int, depth: int, window_norm: bool) -> None:
    a = replace(TINY, d_model=width, n_layers=depth, d_ff=2 * width, window_norm=window_norm)
    logits_B = PatchTransformer(a, dropout=0.3)(windows(a))
    assert torch.equal(logits_B, torch.zeros(4))
    assert F.binary_cross_entropy_with_logits(logits_B, torch.tensor([0.0, 1.0, 1.0, 1.0])).item() == pytest.approx(math.log(2))


def test_deepest_net_trains_from_the_first_step() -> None:
    a = replace(TINY, d_model=8, n_layers=256, d_ff=32)
    model = awake(a)
    first_stream, last_stream = [], []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: first_stream.append(inputs[0].detach()))
    model.norm.register_forward_pre_hook(lambda _, inputs: last_stream.append(inputs[0].detach()))
    logits_B = model(windows(a, batch=8))
    F.binary_cross_entropy_with_logits(logits_B, torch.ones(8)).backward()

    assert logits_B.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    # Depth leaves the stream and the gradient at their scale: neither exploded nor gone.
    assert 0.5 < last_stream[0].std() / first_stream[0].std() < 3
    norms = [block.expand.weight.grad.norm().item() for block in model.blocks]
    assert max(norms) / min(norms) < 5


def test_gradient_reaches_every_parameter_after_one_step() -> None:
    a = replace(TINY, window_norm=True)
    torch.manual_seed(0)
    model = PatchTransformer(a)
    x_BTF, y_B = windows(a, batch=16), torch.tensor([0.0, 1.0] * 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # The head starts at zero and lets nothing through before its first step.
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(x_BTF), y_B).backward()
        optimizer.step()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


@pytest.mark.parametrize("window_norm", [False, True])
def test_logit_does_not_depend_on_the_batch(window_norm: bool) -> None:
    a = replace(TINY, window_norm=window_norm)
    model, x_BTF = awake(a), windows(a, batch=9)
    shuffled = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    logits_B = model(x_BTF)
    torch.testing.assert_close(model(x_BTF[shuffled]), logits_B[shuffled])
    torch.testing.assert_close(torch.cat([model(x_BTF[i : i + 1]) for i in range(9)]), logits_B)


@pytest.mark.parametrize("heads", [1, 2, 4, 16])
def test_attention_is_torchs_own(heads: int) -> None:
    torch.manual_seed(0)
    ours, torchs = Attention(16, heads), nn.MultiheadAttention(16, heads, batch_first=True)
    for linear in (ours.qkv, ours.out):
        nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        nn.init.zeros_(linear.bias)
    torchs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    x_BND = torch.randn(3, 11, 16)
    torch.testing.assert_close(ours(x_BND), torchs(x_BND, x_BND, x_BND)[0])


def test_the_head_reads_every_token_apart() -> None:
    model, x_BTF = awake(TINY), windows(TINY)
    before = model(x_BTF)
    with torch.no_grad():
        model.head.weight.copy_(model.head.weight.view(TINY.n_patches, -1).flip(0).flatten())
    assert not torch.allclose(model(x_BTF), before)


def test_days_of_a_window_have_an_order() -> None:
    model, x_BTF = awake(TINY), windows(TINY)
    assert not torch.allclose(model(x_BTF), model(x_BTF.flip(1)))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    model = PatchTransformer(TINY, dropout=0.5)
    nn.init.normal_(model.head.weight)
    x_BTF = windows(TINY)
    assert not torch.equal(model(x_BTF), model(x_BTF))
    model.eval()
    assert torch.equal(model(x_BTF), model(x_BTF))


@given(st.integers(0, 1000), st.floats(-50, 50), st.floats(0.1, 100))
@settings(deadline=None, max_examples=50)
def test_remove_level_normalises_and_returns_what_it_took(seed: int, mean: float, scale: float) -> None:
    x_BTF = mean + scale * windows(TINY, seed=seed)
    normal_BTF, removed_B2F = remove_level(x_BTF)
    means_BF, log_scales_BF = removed_B2F.split(TINY.n_features, dim=1)

    torch.testing.assert_close(normal_BTF.mean(1), torch.zeros(4, 5), atol=1e-3, rtol=0)
    torch.testing.assert_close(normal_BTF.std(1, correction=0), torch.ones(4, 5), atol=2e-3, rtol=0)
    torch.testing.assert_close(means_BF, x_BTF.mean(1), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(log_scales_BF, x_BTF.std(1, correction=0).log(), atol=2e-3, rtol=0)
    restored = normal_BTF * log_scales_BF.exp().unsqueeze(1) + means_BF.unsqueeze(1)
    torch.testing.assert_close(restored, x_BTF, atol=1e-3, rtol=1e-4)


def test_remove_level_survives_a_constant_feature() -> None:
    normal_BTF, removed_B2F = remove_level(torch.full((2, 60, 5), 3.0))
    assert torch.equal(normal_BTF, torch.zeros(2, 60, 5))
    assert removed_B2F.isfinite().all()


@pytest.mark.parametrize("change", [lambda x: 2 * x, lambda x: x + 2], ids=["scale", "shift"])
def test_window_norm_feeds_the_level_back(change) -> None:
    a = replace(TINY, window_norm=True)
    model, x_BTF = awake(a), windows(a)
    assert ((model(x_BTF) - model(change(x_BTF))).abs() > 1e-3).all()

    # The level reaches the logit through this map alone: what is left is normalised.
    nn.init.zeros_(model.level.weight)
    torch.testing.assert_close(model(x_BTF), model(change(x_BTF)), atol=1e-4, rtol=0)
