"""The chosen configuration trained again before each year of the test days, on all that was known by then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from pipelines.final.calibration import CalibrationMaps
from pipelines.final.options import TrainOptions
from pipelines.final.plan import FinalTrainingPlan, planned
from pipelines.final.seed_run import train_seed
from research.errors import require
from research.evaluation.holdout import HoldoutPredictions
from research.models.patch_transformer import PatchTransformer
from research.task.build import TaskData
from research.task.evidence import evidence_of
from research.task.windows import predict_float64, walk_forward_fold
from research.tracking import schema
from research.tracking.query import RunRecord
from research.tracking.store import Store

Saying = Callable[[TaskData, dict[int, NDArray[np.float64]]], HoldoutPredictions]
"""From a split and the logits of each seed for its test rows to what the ensemble and every reference say of them."""


def evaluate_walk_forward(
    plan: FinalTrainingPlan, frozen: HoldoutPredictions, found: TaskData, saying: Saying, parent_id: str, console: Console
) -> HoldoutPredictions:
    """What a model and references say that are trained again before every calendar year; one nested run per year and seed.

    `frozen` is what the final run says of all test rows, `found` its joined split. Its answers stand for the first year, for
    which there is nothing to add. Epochs and learning rates stay those of the final run: nothing is chosen again.
    """
    first, *later = np.unique(frozen.days.year)
    plans = {int(year): replace(plan, trained_on=f"all before {year}") for year in later}
    told = [_year(one, found, year, saying, parent_id, console) for year, one in plans.items()]
    return HoldoutPredictions.pooled([frozen.of(frozen.days.year == first), *told])


def plan_of(store: Store, final: RunRecord, maps: CalibrationMaps) -> FinalTrainingPlan:
    """What the final run was trained by; `InputError` where it cannot be done again.

    Its calibration is the one that it carries: replicates that came later would fit another.
    """
    seeds = len(str(final.params["seeds"]).split(","))
    asked = TrainOptions(run=final.tags[schema.TRAINED_FROM], seeds=seeds, store=store.root)
    plan = replace(planned(store, asked), method=maps.carried, calibration=maps.by_method[maps.carried])
    known = final.tags[schema.FINAL_FINGERPRINT]
    require(plan.fingerprint == known, schema.FINAL_FINGERPRINT, known, f"it is {plan.fingerprint} here; make train again.")
    return plan


def _year(
    plan: FinalTrainingPlan, found: TaskData, year: int, saying: Saying, parent_id: str, console: Console
) -> HoldoutPredictions:
    same = found.stationary is found.prepared
    prepared = walk_forward_fold(found.prepared, year)
    fold = replace(found, prepared=prepared, stationary=prepared if same else walk_forward_fold(found.stationary, year))
    task = replace(plan.context.task, prepared=prepared, evidence=evidence_of(prepared))
    windows = prepared.dataset(plan.context.runtime.device)
    plan = replace(plan, context=replace(plan.context, task=task, windows=windows))
    seeds = "1 seed" if len(plan.seeds) == 1 else f"{len(plan.seeds)} seeds"
    rows = len(prepared.split.train)
    console.print(f"{year}: {seeds} trained again on the {rows:,} rows known before it", highlight=False)
    return saying(fold, dict(_seeds(plan, parent_id)))


def _seeds(plan: FinalTrainingPlan, parent_id: str) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Seed and its logits of the test rows."""
    context, spec = plan.context, plan.known.spec
    dataset = context.task.prepared.dataset(torch.device("cpu"))
    rows = dataset.rows(context.task.prepared.split.test)
    for seed in plan.seeds:
        _, result = train_seed(plan, parent_id, seed, kind="retrained")
        model = PatchTransformer(spec.architecture, base_width=spec.training.base_width)
        model.load_state_dict(dict(result.weights))
        yield seed, predict_float64(model, dataset, rows)
