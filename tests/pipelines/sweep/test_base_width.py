"""A sweep with width transfer: what its runs say is in use, in the rates and in the attention, and a served model keeps it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.options import SweepOptions
from pipelines.sweep.search_space import FixedSettings, first_suggestions, trial_spec
from pipelines.sweep.setup import require_numbers
from pipelines.sweep.state import Sweep
from pipelines.trial.job import Job, TrialResult
from pipelines.trial.trial import run_stack
from research.errors import InputError
from research.models.patch_transformer import PatchTransformer
from research.models.weights import load_weights
from research.spec import TrialSpec
from research.task.windows import predict
from research.tracking import schema
from tests.conftest import start_sweep
from tests.support.small_sweeps import worker_of

BASE = 16


def started(root: Path, base_width: int) -> Sweep:
    options = SweepOptions(
        budget="2K", trials=1, epochs=2, device="cpu", workers=1, threads=1, store=root, base_width=base_width
    )
    return start_sweep(options)


def widest(sweep: Sweep) -> TrialSpec:
    options = sweep.options
    fixed = FixedSettings(
        task=sweep.context.task.spec,
        epochs=options.epochs,
        patience=options.patience,
        seed=options.seed,
        base_width=options.base_width,
    )
    return trial_spec(first_suggestions(sweep.architectures, sweep.space)[-1], fixed, sweep.architectures)


def trained(sweep: Sweep, spec: TrialSpec) -> TrialResult:
    return run_stack(worker_of(sweep), (Job(number=0, spec=spec),), lambda *_: True)[0]


def test_a_trial_logs_the_base_width_and_its_weights_are_served_with_it(store_root: Path) -> None:
    sweep = started(store_root, BASE)
    spec = widest(sweep)
    finished = trained(sweep, spec)
    assert finished.outcome == "complete"
    assert sweep.context.store.client.get_run(finished.run_id).data.params["base_width"] == str(BASE)

    weights = sweep.context.store.local_artifact(finished.run_id, schema.WEIGHTS_FILE)
    dataset = sweep.context.task.prepared.dataset(torch.device("cpu"))
    rows = dataset.rows(sweep.context.task.prepared.split.validation)
    losses = {}
    for base_width in (BASE, 0):
        model = load_weights(spec.architecture, weights, base_width=base_width)
        losses[base_width] = torch.nn.functional.binary_cross_entropy_with_logits(
            torch.from_numpy(predict(model, dataset, rows)), dataset.labels_R[rows].double()
        ).item()
    assert losses[BASE] == pytest.approx(finished.val_loss, abs=1e-6)
    assert losses[0] != pytest.approx(finished.val_loss, abs=1e-6)


def test_attention_that_does_not_follow_the_rates_stops_the_trial(store_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = started(store_root, BASE)
    build = PatchTransformer.__init__

    def build_with_plain_scale(model: PatchTransformer, *arguments: Any, **options: Any) -> None:
        build(model, *arguments, **options)
        blocks: Any = model.blocks
        for block in blocks:
            block.attention.scale = None

    monkeypatch.setattr(PatchTransformer, "__init__", build_with_plain_scale)
    with pytest.raises(InputError, match=f"base_width={BASE} was declared but {BASE} for rates, 0 for attention is in use"):
        trained(sweep, widest(sweep))


def test_another_base_width_is_another_sweep_and_another_trial(store_root: Path) -> None:
    off, on = started(store_root, 0), started(store_root, BASE)
    tag = schema.SWEEP_FINGERPRINT
    assert off.context.tags[tag] != on.context.tags[tag]
    spec = widest(off)
    assert spec.training.base_width == 0
    assert replace(spec, training=replace(spec.training, base_width=BASE)) == widest(on)


def test_a_negative_base_width_is_refused() -> None:
    with pytest.raises(InputError, match="WIDTH_TRANSFER=-1"):
        require_numbers(SweepOptions(base_width=-1))
