"""Each fast path computes what the plain one does: values and gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from research.models.kernels import attention_dispatch as attention
from research.models.kernels import native
from research.models.kernels.attention_dispatch import KERNELS, KernelName, fastest, kernel_for, using
from research.models.kernels.dropout import LEVELS, Dropout, Noise
from research.models.layers import gelu
from research.models.patch_transformer import PatchTransformer, stacked
from research.spec import ArchitectureSpec

CPU = torch.device("cpu")
TINY = ArchitectureSpec(d_model=16, n_layers=3, n_heads=4, d_ff=32, n_features=5, window_norm=True, n_symbols=3)
with_kernels = pytest.mark.skipif(native.library() is None, reason="no C++ compiler builds the kernels here")


def values_and_gradient(work, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    out = work(x)
    generator = torch.Generator().manual_seed(7)
    (gradient,) = torch.autograd.grad(out, x, torch.randn(out.shape, generator=generator))
    return out.detach(), gradient


@with_kernels
@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 5),
    st.integers(1, native.MOST_TOKENS),
    st.integers(1, 4),
    st.sampled_from([1, 2, 3, 4, 8, 12, 16, 24, 32, 48, 64, 100, native.MOST_WIDTH]),
    st.sampled_from([None, 0.05, 1.0]),
    st.floats(0.1, 4),
)
def test_native_attention_is_the_plain_one(R: int, N: int, H: int, W: int, scale: float | None, size: float) -> None:
    """As near to the exact result as PyTorch's own products come: saturated shares magnify the rounding of both."""
    qkv = size * torch.randn(R, N, 3, H, W, generator=torch.Generator().manual_seed(N * W + H))
    exact = values_and_gradient(lambda x: KERNELS["plain"](x.double(), scale).float(), qkv)
    ours = values_and_gradient(lambda x: KERNELS["native"](x, scale), qkv)
    plain = values_and_gradient(lambda x: KERNELS["plain"](x, scale), qkv)
    for true, found, usual in zip(exact, ours, plain, strict=True):
        allowed = 10 * (usual - true).abs().max() + 1e-5 * true.abs().max().clamp(min=1)
        assert (found - true).abs().max() <= allowed


@pytest.mark.parametrize("scale", [None, 0.05])
@pytest.mark.parametrize(("N", "H", "W"), [(11, 4, 8), (1, 2, 3), (20, 1, 1)])
def test_scaled_dot_product_attention_equals_the_plain_products(scale: float | None, N: int, H: int, W: int) -> None:
    qkv = torch.randn(3, N, 3, H, W)
    for theirs, plain in zip(
        values_and_gradient(lambda x: KERNELS["sdpa"](x, scale), qkv),
        values_and_gradient(lambda x: KERNELS["plain"](x, scale), qkv),
        strict=True,
    ):
        torch.testing.assert_close(theirs, plain)


@with_kernels
def test_attention_takes_rows_that_are_not_contiguous() -> None:
    qkv = torch.randn(6, 11, 3, 2, 8)[::2]
    torch.testing.assert_close(KERNELS["native"](qkv, None), KERNELS["plain"](qkv, None))


@with_kernels
@pytest.mark.parametrize("n", [1, 15, 16, 17, 1000])
def test_native_gelu_is_torchs(n: int) -> None:
    x = torch.linspace(-9, 9, n)
    for ours, torchs in zip(values_and_gradient(gelu, x), values_and_gradient(F.gelu, x), strict=True):
        torch.testing.assert_close(ours, torchs, atol=2e-6, rtol=1e-5)


@with_kernels
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_never_hidden(bad: float) -> None:
    qkv = torch.randn(2, 11, 3, 2, 8)
    qkv[1, 3, 0, 0, 2] = bad
    out = KERNELS["native"](qkv, None)
    assert not out[1, 3].isfinite().all()
    assert out[0].isfinite().all()
    assert not gelu(torch.tensor([bad, 1.0]))[0].isfinite()


@contextmanager
def kernels(there: bool) -> Iterator[None]:
    if there:
        yield
    else:
        with native.switched_off():
            yield


def trained_once(model: PatchTransformer, x: Tensor, symbols: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of one pass with dropout."""
    for place, generator in enumerate(model.noise.generators):
        assert generator is not None
        generator.manual_seed(place)
    model.zero_grad()
    loss = F.binary_cross_entropy_with_logits(model(x, symbols), (symbols == 0).float())
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def awake(copies: int | None = None) -> PatchTransformer:
    torch.manual_seed(0)
    models = [PatchTransformer(TINY, 0.1 * (place + 1)) for place in range(copies or 1)]
    for model in models:
        torch.nn.init.normal_(model.head.weight, std=0.1)
    model = stacked(models) if copies else models[0]
    model.noise.generators = [torch.Generator() for _ in models]
    return model


def windows(copies: int | None) -> tuple[Tensor, Tensor]:
    shape = (copies, 7) if copies else (7,)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, 60, 5, generator=generator), torch.randint(0, 3, shape, generator=generator)


@with_kernels
@pytest.mark.parametrize("copies", [None, 3])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_model_with_kernels_is_the_model_without(copies: int | None, recompute: bool) -> None:
    """The same dropout included: both read the same random bits."""
    model, data = awake(copies), windows(copies)
    model.recompute = recompute
    loss, gradients = trained_once(model, *data)
    model.recompute = False
    with native.switched_off(), using("plain"):
        plain_loss, plain = trained_once(model, *data)
    torch.testing.assert_close(loss, plain_loss)
    assert gradients.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(gradients[name], value, atol=1e-6, rtol=1e-4)


def test_blocks_that_are_computed_again_drop_the_same_numbers() -> None:
    model, data = awake(), windows(None)
    loss, gradients = trained_once(model, *data)
    model.recompute = True
    again, repeated = trained_once(model, *data)
    assert torch.equal(loss, again)
    assert all(torch.equal(value, repeated[name]) for name, value in gradients.items())


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float, there: bool) -> None:
    dropout, noise = Dropout([rate]), Noise(sites=4, n_tokens=11, width=64)
    noise.generators = [torch.Generator().manual_seed(3)]
    bits = noise.draw(100, CPU, stacked=False)
    with kernels(there):
        given = bits if there else dropout.masks(bits, torch.float32)
        out = torch.stack([dropout(None, torch.ones(100, 11, 64), given, site) for site in range(4)])
    n = out.numel()
    share = (out == 0).float().mean().item()
    assert share == pytest.approx(rate, abs=5 * (rate * (1 - rate) / n) ** 0.5 + 1 / LEVELS)
    # Exactly: what is kept is scaled by the rate as it is held.
    assert out.max().item() == pytest.approx(1 / (1 - round(rate * LEVELS) / LEVELS), rel=1e-6)
    # Neither sites nor neighbours nor windows share their fate.
    dropped = (out == 0).float() - share
    for other in (out.roll(1, 0), out.roll(1, 1), out.roll(1, 2), out.roll(1, 3)):
        correlation = (dropped * ((other == 0).float() - share)).mean().item()
        assert abs(correlation) < 5 / n**0.5


@given(st.integers(1, 9), st.integers(1, 9))
@settings(deadline=None, max_examples=20)
def test_a_windows_bits_do_not_depend_on_how_many_are_drawn_at_once(first: int, second: int) -> None:
    def drawn(*counts: int) -> Tensor:
        noise = Noise(sites=3, n_tokens=5, width=3)
        noise.generators = [torch.Generator().manual_seed(5)]
        return torch.cat([noise.draw(count, CPU, stacked=False).clone() for count in counts])

    assert torch.equal(drawn(first + second), drawn(first, second))


def test_the_next_pass_draws_other_bits() -> None:
    noise = Noise(sites=3, n_tokens=5, width=4)
    noise.generators = [torch.Generator().manual_seed(5)]
    first = noise.draw(4, CPU, stacked=False).clone()
    assert not torch.equal(noise.draw(4, CPU, stacked=False), first)


def test_the_probe_takes_what_is_fastest_and_only_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: dict[KernelName, float] = {"native": 2.0, "sdpa": 1.9, "plain": 1.0}
    monkeypatch.setattr(attention, "_seconds", lambda kernel, _: seconds[name_of(kernel)])
    fastest.cache_clear()
    # sdpa is not clearly faster than native, plain is.
    assert fastest("cpu", "float32", 11, 2, 8, compiled=True) == "plain"
    seconds["plain"] = 1.8
    assert fastest("cpu", "float32", 12, 2, 8, compiled=True) == "native"
    assert fastest("cpu", "float32", 12, 2, 8, compiled=False) == "sdpa"
    assert fastest("cpu", "float32", native.MOST_TOKENS + 1, 2, 8, compiled=True) == "sdpa"
    assert fastest("cuda", "float32", 11, 2, 8, compiled=False) == "sdpa"
    fastest.cache_clear()


def test_a_probe_leaves_everybodys_random_numbers_alone() -> None:
    fastest.cache_clear()
    before = torch.get_rng_state()
    fastest("cpu", "float32", 11, 2, 8, compiled=False)
    assert torch.equal(torch.get_rng_state(), before)


def name_of(kernel: object) -> KernelName:
    return next(name for name, known in KERNELS.items() if known is kernel)


def test_switched_off_kernels_are_not_used() -> None:
    qkv = torch.randn(1, 11, 3, 2, 9)
    kernel_for(qkv)
    with native.switched_off():
        assert kernel_for(qkv) != "native"
        assert not native.usable(torch.ones(3))


@pytest.mark.parametrize("environment", [{"TAPESCALE_NATIVE": "0"}, {"PATH": "", "XDG_CACHE_HOME": "cache"}])
def test_without_a_compiler_everything_is_computed_by_torch(environment: dict[str, str], tmp_path: Path) -> None:
    code = "import torch; from research.models.layers import gelu; print(gelu(torch.ones(1)).item())"
    there = {**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[3])}
    ran = subprocess.run([sys.executable, "-c", code], env=there, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(ran.stdout) == pytest.approx(0.8413447, abs=1e-6)
