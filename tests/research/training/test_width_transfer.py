"""With a base width, what a step changes does not depend on the width; at the base width nothing is changed at all."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from research.models.budget import REFERENCE_GRID, SMALL_GRID
from research.models.kernels import attention_dispatch as attention
from research.models.kernels import native
from research.models.layers import Linear
from research.models.patch_transformer import PatchTransformer, stacked
from research.spec import ArchitectureSpec, TrainingSpec
from research.training.optim import WarmupCosine, base_width_in, build_optimizer

BASE = 32
SHAPE = ArchitectureSpec(
    d_model=BASE, n_layers=2, n_heads=1, d_ff=2 * BASE, context_length=20, patch_length=5, patch_stride=5, n_features=4
)
SPEC = TrainingSpec(
    learning_rate=3e-3, weight_decay=0.1, dropout=0.0, warmup_steps=0, batch_size=32, epochs=1, patience=1, seed=0
)
Coordinates = dict[str, Tensor]


def of_width(width: int) -> ArchitectureSpec:
    return replace(SHAPE, d_model=width, d_ff=2 * width)


def windows() -> tuple[Tensor, Tensor]:
    """Windows whose label is the sign of a feature on the newest day."""
    x_BTF = torch.randn(32, SHAPE.context_length, SHAPE.n_features, generator=torch.Generator().manual_seed(7))
    return x_BTF, (x_BTF[:, -1, 0] > 0).float()


def built(architecture: ArchitectureSpec, base_width: int, seed: int = 0) -> PatchTransformer:
    torch.manual_seed(seed)
    return PatchTransformer(architecture, base_width=base_width)


def train(model: PatchTransformer, spec: TrainingSpec, steps: int) -> list[float]:
    optimizer = build_optimizer(model.named_parameters(), spec, model.architecture)
    schedule = WarmupCosine(optimizer, spec.warmup_steps, 10 * steps)
    x_BTF, y_B = windows()
    losses = []
    for step in range(steps):
        schedule.set(step)
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(x_BTF), y_B)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def coordinates(model: PatchTransformer) -> Coordinates:
    """The last stream, the last block's attention scores and the logits."""
    seen: Coordinates = {}
    last = model.blocks[-1].attention
    hooks = [
        model.norm.register_forward_pre_hook(lambda _, inputs: seen.update(stream=inputs[0])),
        last.qkv.register_forward_hook(lambda _, __, out: seen.update(qkv=out)),
    ]
    logits = model(windows()[0])
    for hook in hooks:
        hook.remove()
    q_BHNW, k_BHNW, _ = seen.pop("qkv").unflatten(-1, (3, last.n_heads, -1)).permute(2, 0, 3, 1, 4)
    scale = q_BHNW.shape[-1] ** -0.5 if last.scale is None else last.scale
    return {**seen, "scores": scale * q_BHNW @ k_BHNW.mT, "logits": logits}


@cache
def change(width: int, base_width: int, plain_attention: bool = False) -> dict[str, float]:
    """Root mean square of what five steps change."""
    model = built(of_width(width), base_width)
    if plain_attention:
        for block in model.blocks:
            block.attention.scale = None
    before = coordinates(model)
    train(model, replace(SPEC, base_width=base_width, weight_decay=0.0), steps=5)
    return {name: (value - before[name]).square().mean().sqrt().item() for name, value in coordinates(model).items()}


def growth(what: str, narrow: int, wide: int, **how: int) -> float:
    return change(wide, **how)[what] / change(narrow, **how)[what]


@pytest.mark.parametrize("what", ["stream", "logits"])
@pytest.mark.parametrize("width", [64, 128, 256])
def test_steps_change_the_stream_and_the_logits_equally_at_every_width(what: str, width: int) -> None:
    assert growth(what, BASE, width, base_width=BASE) == pytest.approx(1, abs=0.2)


def test_steps_change_attention_no_more_in_a_wide_model() -> None:
    # Random queries and keys overlap by chance, the less the wider they are: the change falls to its limit from above.
    assert 0.4 < growth("scores", BASE, 256, base_width=BASE) < 1


@pytest.mark.parametrize("what", ["stream", "logits", "scores"])
def test_without_transfer_a_wide_model_is_changed_more(what: str) -> None:
    """The check can fail: at one rate for all weights the change grows with the width."""
    assert growth(what, BASE, 256, base_width=0) > 3


def test_scores_need_their_own_scale() -> None:
    """The check can fail: with the rates alone, scores grow with the width as queries and keys learn to agree."""
    assert growth("scores", BASE, 256, base_width=BASE, plain_attention=True) > 1.5


@pytest.mark.parametrize("kernel", list(attention.KERNELS))
@pytest.mark.parametrize("heads", [1, 4])
def test_at_the_base_width_training_is_the_plain_one_to_the_bit(kernel: attention.KernelName, heads: int) -> None:
    if kernel == "native" and native.library() is None:
        pytest.skip("no compiler here")
    a = replace(SHAPE, n_heads=heads, window_norm=True)
    plain, based = built(a, 0), built(a, BASE)
    with attention.using(kernel):
        assert train(based, replace(SPEC, base_width=BASE), 4) == train(plain, SPEC, 4)
    for name, value in plain.state_dict().items():
        assert torch.equal(based.state_dict()[name], value), name


def test_another_width_is_trained_otherwise() -> None:
    assert train(built(SHAPE, 64), replace(SPEC, base_width=64), 4) != train(built(SHAPE, 0), SPEC, 4)


def test_what_reads_the_width_has_the_scaled_rate_and_the_rest_the_plain_one() -> None:
    a = replace(of_width(4 * BASE), window_norm=True, n_symbols=3)
    model = built(a, BASE)
    optimizer = build_optimizer(model.named_parameters(), replace(SPEC, base_width=BASE), a)
    assert WarmupCosine(optimizer, 10, 100).set(4) == SPEC.learning_rate / 2
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    maps = {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, Linear)}
    reads_width = {name for name, module in maps.items() if module.in_features % a.d_model == 0}
    assert rates == {name: SPEC.learning_rate / (8 if name in reads_width else 2) for name in names.values()}
    assert {"head.weight", "blocks.0.attention.qkv.weight", "blocks.1.contract.weight"} < reads_width
    assert not reads_width & {"embedding.weight", "level.weight"}


@pytest.mark.parametrize("width", [8, 32, 256])
def test_every_matrix_shrinks_by_the_same_share_a_step(width: int) -> None:
    model = built(of_width(width), BASE)
    optimizer = build_optimizer(model.named_parameters(), replace(SPEC, base_width=BASE), model.architecture)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)  # Without a gradient, decay is all that moves a weight.
    optimizer.step()
    maps = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Linear)}
    kept = 1 - SPEC.learning_rate * SPEC.weight_decay
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (kept if name in maps else 1))


@pytest.mark.parametrize("base_width", [0, 4, 48, 64, 96, 2048])
@pytest.mark.parametrize("width", sorted({*SMALL_GRID.widths, *REFERENCE_GRID.widths}))
def test_the_base_width_is_read_back_from_what_uses_it(width: int, base_width: int) -> None:
    for heads in (1, 2, 4):
        # One layer on the meta device: what is read back are numbers, not weights.
        with torch.device("meta"):
            model = PatchTransformer(replace(of_width(width), n_layers=1, n_heads=heads), base_width=base_width)
        assert model.base_width == base_width
        optimizer = build_optimizer(model.named_parameters(), replace(SPEC, base_width=base_width), model.architecture)
        assert base_width_in(optimizer, model.architecture) == base_width


def test_a_stack_scales_attention_as_its_models_do() -> None:
    models = [built(SHAPE, 64, seed) for seed in (0, 1)]
    stack = stacked(models)
    assert stack.base_width == 64
    for model in models:  # A head of zeros would hide all that comes before it.
        torch.nn.init.ones_(model.head.weight)
    torch.nn.init.ones_(stack.head.weight)
    x_BTF = windows()[0]
    torch.testing.assert_close(stack(torch.stack([x_BTF, x_BTF])), torch.stack([model(x_BTF) for model in models]))


def loss_after_training(width: int, base_width: int, rate: float) -> float:
    """Mean loss on fresh windows of a rule that three days decide, after a short training on fresh windows."""
    generator = torch.Generator().manual_seed(1000)
    model = built(of_width(width), base_width)
    spec = replace(SPEC, learning_rate=rate, base_width=base_width, weight_decay=0.0)
    optimizer = build_optimizer(model.named_parameters(), spec, model.architecture)
    schedule = WarmupCosine(optimizer, 5, 60)
    losses = []
    for step in range(70):
        x_BTF = torch.randn(64, SHAPE.context_length, SHAPE.n_features, generator=generator)
        y_B = (x_BTF[:, -1, 0] + x_BTF[:, -6, 1].abs() > x_BTF[:, 3, 2].abs()).float()
        loss = F.binary_cross_entropy_with_logits(model(x_BTF), y_B)
        losses.append(loss.item())
        if step < 60:
            schedule.set(step)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return sum(losses[60:]) / 10


def test_the_best_rate_of_a_narrow_model_is_the_best_of_a_wide_one() -> None:
    rates = (1e-3, 8e-3, 64e-3)
    narrow, wide, plain_wide = (
        [loss_after_training(width, base_width, rate) for rate in rates]
        for width, base_width in ((32, 32), (128, 32), (128, 0))
    )
    assert narrow.index(min(narrow)) == wide.index(min(wide)) == 1
    assert wide == pytest.approx(narrow, abs=0.05)
    # At one rate for all weights the best rate has moved down, and the narrow model's highest lets the wide one learn nothing.
    assert plain_wide.index(min(plain_wide)) == 0
    assert plain_wide[2] > 0.68
