"""Walk-forward evaluation: the chosen configuration is trained again before each test year on all earlier rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from pipelines.final.calibration import CalibrationMaps
from pipelines.final.options import TrainOptions
from pipelines.final.plan import FinalTrainingPlan, plan_training
from pipelines.final.rebuild import ReproducedTask
from pipelines.final.seed_run import train_seed
from research.cli.console import print_line
from research.errors import require
from research.evaluation.holdout import HoldoutPredictions
from research.models.patch_transformer import PatchTransformer
from research.task.build import TaskData
from research.task.evidence import evidence_of
from research.task.windows import predict_float64, walk_forward_fold
from research.tracking import schema
from research.tracking.query import RunRecord
from research.tracking.store import Store

Predict = Callable[[TaskData, dict[int, NDArray[np.float64]]], HoldoutPredictions]
"""Function from a fold and each seed's logits of its test rows to the predictions of the ensemble and every reference."""


def evaluate_walk_forward(
    plan: FinalTrainingPlan, frozen: HoldoutPredictions, joined: TaskData, predict: Predict, parent_id: str, screen: Console
) -> HoldoutPredictions:
    """Return the test predictions of a model and references that are trained again before each calendar year.

    `frozen` has the final run's predictions of all test rows, `joined` the data with training and validation rows joined. The
    first year keeps the final run's predictions, since no rows are added for it. Epochs and learning rates stay those of the
    final run. Each year and seed is a nested run.
    """
    first, *later = np.unique(frozen.days.year)
    parts = [frozen.of(frozen.days.year == first)]
    for year in map(int, later):
        yearly = replace(plan, trained_on=f"all before {year}")
        parts.append(_year(yearly, joined, year, predict, parent_id, screen))
    return HoldoutPredictions.pooled(parts)


def walk_forward_plan(store: Store, final: RunRecord, maps: CalibrationMaps, reproduced: ReproducedTask) -> FinalTrainingPlan:
    """Return the plan that the final run was trained by; raise `InputError` if it cannot be repeated.

    The calibration is the one that the final run carries: replicates that were added later would fit another.
    """
    seeds = len(str(final.params["seeds"]).split(","))
    options = TrainOptions(run=final.tags[schema.TRAINED_FROM], seeds=seeds, store=store.root)
    plan = plan_training(store, options, reproduced)
    plan = replace(plan, method=maps.carried, calibration=maps.by_method[maps.carried])
    logged = final.tags[schema.FINAL_FINGERPRINT]
    fix = f"the plan computed here is {plan.fingerprint}; run make train again."
    require(plan.fingerprint == logged, schema.FINAL_FINGERPRINT, logged, fix)
    return plan


def _year(
    plan: FinalTrainingPlan, joined: TaskData, year: int, predict: Predict, parent_id: str, screen: Console
) -> HoldoutPredictions:
    """Train every seed on the rows before `year` and return the predictions of that year."""
    prepared = walk_forward_fold(joined.prepared, year)
    same = joined.stationary is joined.prepared
    fold = replace(joined, prepared=prepared, stationary=prepared if same else walk_forward_fold(joined.stationary, year))
    task = replace(plan.context.task, prepared=prepared, evidence=evidence_of(prepared))
    windows = prepared.dataset(plan.context.runtime.device)
    plan = replace(plan, context=replace(plan.context, task=task, windows=windows))
    seeds = f"{len(plan.seeds)} seed{'s' * (len(plan.seeds) != 1)}"
    print_line(screen, f"{year}: {seeds} trained again on the {len(prepared.split.train):,} rows known before it")
    return predict(fold, dict(_seed_logits(plan, parent_id)))


def _seed_logits(plan: FinalTrainingPlan, parent_id: str) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Train each seed; yield it with its logits of the test rows."""
    spec, prepared = plan.reproduced.spec, plan.context.task.prepared
    dataset = prepared.dataset(torch.device("cpu"))
    rows = dataset.rows(prepared.split.test)
    for seed in plan.seeds:
        _, result = train_seed(plan, parent_id, seed, kind="retrained")
        model = PatchTransformer(spec.architecture, base_width=spec.training.base_width)
        model.load_state_dict(dict(result.weights))
        yield seed, predict_float64(model, dataset, rows)
