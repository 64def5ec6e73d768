"""Test predictions of a final run's ensemble and of every reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from pipelines.final.calibration import CalibrationMaps, out_of_sample_validation
from pipelines.final.rebuild import ReproducedTask
from research.evaluation.ensemble import ensemble
from research.evaluation.holdout import MODEL, HoldoutPredictions
from research.evaluation.metrics import logits_of
from research.evaluation.verification import rolling_rate, thresholds
from research.models.baselines import BASELINES
from research.models.patch_transformer import PatchTransformer
from research.models.weights import load_weights
from research.task.build import TaskData
from research.task.task import baseline_rows
from research.task.windows import merge_train_validation, predict_float64
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store

ROLLING = "rolling_prior"
"""Name of the rolling prior among the references."""


def holdout_predictions(data: TaskData, seeds: dict[int, NDArray[np.float64]], maps: CalibrationMaps) -> HoldoutPredictions:
    """Return the test predictions of the model, from its seeds' logits, and of references fitted on the training rows."""
    prepared = data.prepared
    rows = prepared.split.test
    logits = ensemble(np.stack(list(seeds.values())))
    calibrated: dict[str, NDArray[np.float64]] = {method: calibrate(logits) for method, calibrate in maps.by_method.items()}
    rows_of_baselines = baseline_rows(data, "test")
    references = {name: logits_of(baseline(rows_of_baselines)) for name, baseline in BASELINES.items()}
    return HoldoutPredictions(
        days=prepared.days[rows],
        symbols=np.array([part.symbol for part in prepared.parts])[prepared.symbols[rows]],
        label_ends=prepared.label_ends(rows),
        labels=prepared.labels_of("test"),
        volatility=data.volatility[rows],
        logits={
            MODEL: calibrated[maps.carried],
            "prior": references["prior"],
            ROLLING: logits_of(_rolling_prior(data)),
            **{name: logits for name, logits in references.items() if name != "prior"},
        },
        seeds=seeds,
        calibrated=calibrated,
        carried=maps.carried,
        interval=maps.interval,
        base_rate=float(prepared.labels_of("train").mean()),
        horizon=data.spec.target.horizon,
    )


def rows_before_test(data: TaskData) -> TaskData:
    """Join training and validation rows, for the model's features and for those of the baselines."""
    prepared = merge_train_validation(data.prepared)
    same = data.stationary is data.prepared
    return replace(data, prepared=prepared, stationary=prepared if same else merge_train_validation(data.stationary))


def seed_models(store: Store, final: RunRecord, reproduced: ReproducedTask) -> dict[int, PatchTransformer]:
    """Return seed -> its trained model."""
    return {
        int(run.params["seed"]): load_weights(
            reproduced.spec.architecture,
            store.local_artifact(run.run_id, schema.SEED_WEIGHTS),
            base_width=reproduced.spec.training.base_width,
        )
        for run in query.children(store, final.experiment_id, final.run_id)
    }


def seed_logits(models: Mapping[int, PatchTransformer], data: TaskData) -> dict[int, NDArray[np.float64]]:
    """Return seed -> logits (N,) of the test rows."""
    dataset = data.prepared.dataset(torch.device("cpu"))
    rows = dataset.rows(data.prepared.split.test)
    return {seed: predict_float64(model, dataset, rows) for seed, model in models.items()}


def chosen_thresholds(store: Store, final: RunRecord, maps: CalibrationMaps) -> dict[str, float]:
    """Return rule -> threshold, chosen on out-of-sample validation predictions, calibrated as the model is."""
    logits, labels = out_of_sample_validation(store, final.experiment_id, final.tags[schema.TRAINED_FROM])
    return thresholds(expit(maps.by_method[maps.carried](logits)), labels)


def _rolling_prior(data: TaskData) -> NDArray[np.float64]:
    """Return (N,) shares of positives in the year of labels known at each test row's close, per instrument."""
    prepared, test = data.prepared, data.prepared.split.test
    rates = np.empty(len(test))
    for index, part in enumerate(prepared.parts):
        of_part = prepared.symbols[test] == index
        first_row = int(np.argmax(prepared.symbols == index))
        rates[of_part] = rolling_rate(part.target.labels, test[of_part] - first_row, part.target.spec.horizon)
    return rates
