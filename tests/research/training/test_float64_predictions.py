"""Answers depend on the bars alone: not on how many are asked for at once, nor on threads, under any map, however steep."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
import torch
from scipy.special import expit

from research.evaluation.calibration import METHODS, Isotonic, Method, fitted
from research.evaluation.ensemble import EnsembleOutput, ensemble, seed_interval
from research.evaluation.metrics import Array, Labels
from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec
from research.task.windows import WindowDataset, predict, predict_float64

ROWS, FEATURES, CONTEXT = 700, 5, 20
SHAPE = {"d_model": 16, "n_layers": 4, "n_heads": 2, "d_ff": 64, "context_length": CONTEXT, "n_features": FEATURES}
LAST = 150
"""Rows that are asked again."""
WAYS = [(1, 1), (7, 2), (100, 1), (512, 2)]
"""Windows at once, and threads; before they are asked again it is 512 on one thread."""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def windows() -> WindowDataset:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    return WindowDataset(values, np.zeros(ROWS, np.int8), CONTEXT, torch.device("cpu"), rng.integers(0, 3, ROWS))


def net(seed: int, *, spread: float = 1.0, base_width: int = 0, **changes: int | bool) -> PatchTransformer:
    """A model whose logits have about this standard deviation."""
    torch.manual_seed(seed)
    model = PatchTransformer(ArchitectureSpec(**{**SHAPE, **changes}), base_width=base_width)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.head.weight, std=spread * model.head.in_features**-0.5)
    torch.nn.init.constant_(model.head.bias, -1.0)
    return model


def hardly_trained(windows: WindowDataset) -> tuple[Array, Labels, list[PatchTransformer]]:
    """Seeds whose probabilities spread by some thousandths and rank the days all the same: an isotonic map must be steep."""
    models = [net(0, spread=0.02), net(1, spread=0.002)]
    logits = ensemble(logits_of(models, windows))
    truth = (logits - logits.mean()) / logits.std() - 1
    return logits, (np.random.default_rng(1).uniform(size=len(truth)) < expit(truth)).astype(np.int8), models


def logits_of(models: list[PatchTransformer], windows: WindowDataset, first: int = CONTEXT - 1) -> Array:
    rows = torch.arange(first, ROWS)
    return np.stack([predict_float64(model, windows, rows) for model in models])


@pytest.mark.parametrize("method", METHODS)
def test_batch_and_threads_do_not_show_in_an_answer(windows: WindowDataset, method: Method) -> None:
    logits, labels, models = hardly_trained(windows)
    calibration = fitted(method, logits, labels)
    if isinstance(calibration, Isotonic):
        assert (np.diff(calibration.seen) / np.diff(calibration.said)).max() > 100
    answering = EnsembleOutput(calibration=calibration, interval=seed_interval(logits_of(models, windows)))
    said = answering(logits_of(models, windows))
    for at_once, threads in WAYS:
        torch.set_num_threads(threads)
        with patch("research.task.windows.EVALUATION_BATCH", at_once):
            again = answering(logits_of(models, windows, first=ROWS - LAST))
        for name in ("probability", "low", "high"):
            assert again[name] == pytest.approx(said[name][-LAST:], abs=1e-9, rel=0)


@pytest.mark.parametrize("changes", [{}, {"window_norm": True}, {"n_symbols": 3}, {"base_width": 8}])
def test_nothing_inside_a_model_is_rounded_to_single_precision(windows: WindowDataset, changes: dict[str, int | bool]) -> None:
    model, rows = net(0, **changes), torch.arange(CONTEXT - 1, ROWS)  # type: ignore[arg-type]
    said = predict_float64(model, windows, rows)
    twin = predict(copy.deepcopy(model).double(), windows, rows, dtype=torch.float64)
    assert said == pytest.approx(twin, abs=1e-12)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert 0 < np.abs(said - predict(model, windows, rows)).max() < 1e-5
