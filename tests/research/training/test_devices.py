"""What CUDA adds, as far as it can be shown without one: recorded steps, compiled blocks, a short precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

import research.training.precision as precision
from research.models.patch_transformer import PatchTransformer
from research.runtime import Runtime
from research.spec import ArchitectureSpec
from research.task.windows import WindowDataset
from research.training.compiled import compile_blocks, compiles
from research.training.optim import WarmupCosine, build_optimizer, keep_on_device
from research.training.precision import faster_precision
from research.training.step_graph import WARM_UP_STEPS, StepGraph
from research.training.trainer import Trainer, build_model
from tests.research.training.test_trainer import (
    ARCHITECTURE,
    CONTEXT,
    CPU,
    SPEC,
    SPLIT,
    Listening,
    losses,
    newest_day_labels,
    toy_values,
)


class Tape:
    """Runs what it was given at each replay, into the same memory. As with a graph, recording it runs nothing."""

    def record(self, work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        self._work, self._out = work, (torch.zeros(0), torch.zeros(0))
        return self._out

    def replay(self) -> None:
        for old, new in zip(self._out, self._work(), strict=True):
            old.resize_(new.shape).copy_(new)


class Broken(Tape):
    def record(self, work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def sums() -> tuple[list[float], Callable[[Tensor], tuple[Tensor, Tensor]]]:
    seen: list[float] = []

    def step(rows: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(rows.sum().item())
        return rows.sum(), rows.max()

    return seen, step


BATCHES = [torch.arange(start, start + 4.0) for start in range(7)]


def test_a_recorded_step_reads_each_batch_and_returns_its_own_result() -> None:
    prepared: list[float] = []
    _, step = sums()
    graph = StepGraph(step, lambda rows: prepared.append(rows[0].item()), Tape)
    results = [graph(rows) for rows in BATCHES]
    assert [loss.item() for loss, _ in results] == [rows.sum().item() for rows in BATCHES]
    assert prepared == [rows[0].item() for rows in BATCHES]


def test_a_batch_of_another_size_is_not_replayed() -> None:
    _, step = sums()
    graph = StepGraph(step, lambda _: None, Tape)
    for rows in BATCHES:
        graph(rows)
    assert graph(torch.tensor([5.0, 6.0]))[0].item() == 11


def test_where_recording_fails_steps_are_taken_one_by_one() -> None:
    _, step = sums()
    graph = StepGraph(step, lambda _: None, Broken)
    for rows in BATCHES[:WARM_UP_STEPS]:
        graph(rows)
    with pytest.warns(UserWarning, match="not permitted when stream is capturing$"):
        assert graph(BATCHES[5])[0].item() == BATCHES[5].sum().item()
    assert graph(BATCHES[6])[0].item() == BATCHES[6].sum().item()


def trainer(spec=SPEC, runtime: Runtime | None = None) -> Trainer:
    dataset = WindowDataset(toy_values(), newest_day_labels(toy_values()), CONTEXT, CPU)
    return Trainer(build_model(ARCHITECTURE, spec, CPU), dataset, SPLIT, spec, runtime or Runtime(device=CPU))


def test_a_training_of_replayed_steps_is_the_same_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step reads its random bits and its learning rates from memory that is written ahead of it."""
    spec = replace(SPEC, dropout=0.3, weight_decay=0.1)
    expected = trainer(spec).run(Listening())
    replayed = trainer(spec)
    replayed._use_graph = True
    monkeypatch.setattr("research.training.trainer.StepGraph", lambda step, before: StepGraph(step, before, Tape))
    replayed._set_states(replayed.states)
    found = replayed.run(Listening())
    assert losses(found) == losses(expected)


def test_rates_kept_on_the_device_are_the_same_rates() -> None:
    model = PatchTransformer(ARCHITECTURE)
    optimizer = build_optimizer(model.named_parameters(), SPEC, ARCHITECTURE)
    plain = WarmupCosine(optimizer, 3, 30)
    rates = [plain.set(step) for step in range(30)]
    keep_on_device(optimizer, CPU)
    address = [group["lr"].data_ptr() for group in optimizer.param_groups]
    schedule = WarmupCosine(optimizer, 3, 30)
    schedule.peak = plain.peak
    for step, rate in enumerate(rates):
        assert schedule.set(step) == rate
        assert all(group["lr"].item() == pytest.approx(rate) for group in optimizer.param_groups)
    assert [group["lr"].data_ptr() for group in optimizer.param_groups] == address


def compilations(depth: int) -> int:
    torch._dynamo.reset()
    counter = CompileCounter()
    architecture = ArchitectureSpec(d_model=8, n_layers=depth, n_heads=2, d_ff=16, n_features=3)
    model = PatchTransformer(architecture, 0.1)
    model.noise.generators = [torch.Generator()]
    compile_blocks(model, counter)
    for size in (4, 4, 4):
        model(torch.randn(size, 60, 3)).sum().backward()
    return counter.frame_count


def test_depth_adds_no_compilation() -> None:
    assert 0 < compilations(24) == compilations(2) <= 2


def test_compiled_blocks_compute_the_same() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = PatchTransformer(replace(ARCHITECTURE, n_layers=2), 0.2)
    torch.nn.init.normal_(model.head.weight)
    x_BTF = torch.randn(5, CONTEXT, 3)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model.noise.generators = [torch.Generator().manual_seed(4)]
        model(x_BTF).sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients()
    compile_blocks(model, "aot_eager")
    for ours, theirs in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_cpu_compiles_nothing() -> None:
    assert not compiles(CPU)


def test_a_short_precision_trains_the_same_model_with_weights_in_full() -> None:
    spec = replace(SPEC, epochs=2)
    full, short = trainer(spec), trainer(spec, Runtime(device=CPU, precision="bfloat16"))
    expected, found = full.run(Listening()), short.run(Listening())
    assert found.val_loss == pytest.approx(expected.val_loss, abs=0.02)
    assert losses(found) != losses(expected)
    assert {weight.dtype for weight in found.weights.values()} == {torch.float32}
    # Evaluation is in full: predictions are those of the weights that are kept.
    assert found.val_logits.astype("float32").tobytes() == full_prediction(found.weights).tobytes()


def full_prediction(weights: dict[str, Tensor]):
    again = trainer()
    again.model.load_state_dict(weights)
    return again._predict()[0].astype("float32")


@pytest.mark.parametrize(
    ("seconds", "error", "expected"),
    [
        ((1.0, 0.5), 1.0, "bfloat16"),
        ((1.0, 0.9), 1.0, "float32"),
        ((1.0, 0.5), float("nan"), "float32"),
        ((1.0, 0.5), 3.0, "float32"),
    ],
    ids=["faster", "hardly faster", "not finite", "far off"],
)
def test_a_short_precision_is_taken_where_it_is_faster_and_right(
    seconds: tuple[float, float], error: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = dict(zip(("float32", "bfloat16"), seconds, strict=True))
    real = precision._Probe.gradient
    monkeypatch.setattr(precision._Probe, "seconds", lambda _, name: took[name])
    monkeypatch.setattr(
        precision._Probe, "gradient", lambda self, name: real(self, "float32") * (error if name == "bfloat16" else 1.0)
    )
    assert faster_precision(ARCHITECTURE, 16, CPU) == expected
