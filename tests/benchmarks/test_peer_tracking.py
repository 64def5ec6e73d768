from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gemm, patchtst
from benchmarks.harness import cpu_in_turn, cpu_seconds, one_thread
from benchmarks.loop_adamw import LoopAdamW, give_gradients
from benchmarks.plain_trainer import PlainTrainer, PlainTransformer, Windows
from research.models.accounting import parameter_count
from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec, TrainingSpec

SMALL = ArchitectureSpec(d_model=16, n_layers=2, n_heads=2, d_ff=32)
SPEC = TrainingSpec(
    learning_rate=3e-3, weight_decay=0.01, dropout=0.1, warmup_steps=0, batch_size=64, epochs=2, patience=2, seed=0
)
DAYS, CONTEXT, FEATURES = 400, SMALL.context_length, SMALL.n_features


@pytest.fixture(scope="module")
def windows() -> Windows:
    """The label is the sign of a feature's last value."""
    values = np.random.default_rng(0).standard_normal((DAYS, FEATURES), dtype=np.float32)
    return Windows(values, (values[:, 3] > 0).astype(np.int8), np.arange(CONTEXT - 1, DAYS), CONTEXT)


def needs_transformers() -> None:
    if sentence := patchtst.missing():
        pytest.skip(sentence)


@pytest.mark.parametrize("shape", [(64, 48, 8, 256), (192, 5, 8, 768), (768, 4, 2, 1536)])
def test_the_plain_model_has_as_many_parameters_as_ours(shape: tuple[int, int, int, int]) -> None:
    d_model, n_layers, n_heads, d_ff = shape
    a = ArchitectureSpec(d_model=d_model, n_layers=n_layers, n_heads=n_heads, d_ff=d_ff)
    assert sum(p.numel() for p in PlainTransformer(a, 0.1).parameters()) == parameter_count(a)


def test_the_plain_model_computes_what_ours_does() -> None:
    # Both as in training: in evaluation torch takes a fused path of its own, which is not what is timed.
    ours, plain = PatchTransformer(SMALL), PlainTransformer(SMALL, 0.0)
    x_BTF = torch.randn(5, CONTEXT, FEATURES)
    with torch.no_grad():
        ours.head.weight.normal_()
        for name, value in plain.state_dict().items():
            value.copy_(ours.state_dict()[our_name(name)])
        torch.testing.assert_close(plain(x_BTF), ours(x_BTF), atol=1e-5, rtol=1e-5)


def our_name(name: str) -> str:
    """Name of the same tensor in our model."""
    for theirs, ours in {
        "encoder.layers": "blocks",
        "encoder.norm": "norm",
        "self_attn.in_proj_": "attention.qkv.",
        "self_attn.out_proj": "attention.out",
        "linear1": "expand",
        "linear2": "contract",
        "norm1": "norm_attention",
        "norm2": "norm_feed_forward",
    }.items():
        name = name.replace(theirs, ours)
    return name


def test_the_plain_model_drops_the_embedding_and_both_branches_and_nothing_else() -> None:
    model = PlainTransformer(SMALL, 0.25)
    rates = {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p > 0}
    branches = [f"encoder.layers.{n}.dropout{k}" for n in range(SMALL.n_layers) for k in (1, 2)]
    assert rates == dict.fromkeys(["dropout", *branches], 0.25)
    assert {module.dropout for module in model.modules() if isinstance(module, nn.MultiheadAttention)} == {0.0}


def test_the_plain_trainer_learns(windows: Windows) -> None:
    trainer = PlainTrainer(windows, SMALL, SPEC)
    assert trainer.batches_per_epoch == 6
    losses = trainer.run(120)
    assert len(losses) == 120
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])


def test_each_item_is_the_window_that_ends_on_its_row(windows: Windows) -> None:
    x_TF, y = windows[7]
    assert torch.equal(x_TF, windows.values_RF[7 : 7 + CONTEXT])
    assert y == (x_TF[-1, 3] > 0)
    assert len(windows) == DAYS - CONTEXT + 1


def test_the_loop_is_adamw() -> None:
    ours, theirs = (list(PlainTransformer(SMALL, 0.0).parameters()) for _ in range(2))
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            mine.copy_(other)
    loop = LoopAdamW(ours, learning_rate=1e-2, weight_decay=0.1)
    torchs = torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.1)
    for step in range(5):
        for parameters, optimizer in ((ours, loop), (theirs, torchs)):
            give_gradients(parameters, seed=step)
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=0)


def test_sleep_costs_no_processor_time_and_threads_are_restored() -> None:
    threads = torch.get_num_threads()
    seen: list[int] = []
    assert cpu_seconds(lambda: time.sleep(0.05)) < 0.02
    with one_thread():
        seen.append(torch.get_num_threads())
    assert (seen, torch.get_num_threads()) == ([1], threads)


def test_works_take_turns_and_the_first_round_is_left_out() -> None:
    told: list[str] = []
    seconds = cpu_in_turn([lambda: told.append("a"), lambda: sum(range(50_000))], 3)
    assert told == ["a"] * 4
    assert seconds[0] < seconds[1]


def test_a_peak_is_the_rate_of_the_fastest_size() -> None:
    with one_thread():
        assert 1e8 < gemm.best_rate(torch.float32, sizes=(64, 128), seconds_each=0.01) < 1e13


def test_where_transformers_is_not_there_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patchtst, "find_spec", lambda name: None)
    assert "transformers is not installed" in patchtst.missing()
    assert "\n" not in patchtst.missing()


def test_patchtst_has_the_counted_tokens_and_flops() -> None:
    needs_transformers()
    reference = patchtst.PatchTst(SMALL, batch_size=1)
    seen: list[torch.Size] = []
    reference.model.model.encoder.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["hidden_state"].shape), with_kwargs=True
    )
    # Only this way of computing attention shows its products to the counter.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits_B = reference.logits(torch.randn(1, CONTEXT, FEATURES))
        forward = counter.get_total_flops()
        logits_B.sum().backward()
    assert forward == patchtst.forward_flops(SMALL)
    assert counter.get_total_flops() == patchtst.training_flops(SMALL)
    assert seen == [torch.Size([1, FEATURES, SMALL.n_patches, SMALL.d_model])]
    assert patchtst.tokens_per_window(SMALL) == FEATURES * SMALL.n_patches == 275


def test_patchtst_drops_what_ours_drops() -> None:
    needs_transformers()
    model = patchtst.PatchTst(SMALL, batch_size=1, dropout=0.25).model
    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout) and module.p > 0]
    assert rates == [0.25] * (1 + 2 * SMALL.n_layers)


def test_a_patchtst_step_in_parts_is_the_step_of_the_whole_batch() -> None:
    needs_transformers()
    weights = []
    for micro_batch in (3, 8):
        torch.manual_seed(0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(patchtst, "MICRO_BATCH", micro_batch)
            reference = patchtst.PatchTst(SMALL, batch_size=8, dropout=0.0)
            reference.step()
        weights.append(nn.utils.parameters_to_vector(reference.model.parameters()))
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=0)
