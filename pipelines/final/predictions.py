"""What a final run's ensemble and every reference say of the test rows, after one training or another."""

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


def holdout_predictions(found: TaskData, seeds: dict[int, NDArray[np.float64]], maps: CalibrationMaps) -> HoldoutPredictions:
    """The answers to the test rows: of the seeds, given as logits, and of every reference, fitted on the training rows."""
    prepared = found.prepared
    rows = prepared.split.test
    logits = ensemble(np.stack(list(seeds.values())))
    calibrated: dict[str, NDArray[np.float64]] = {method: one(logits) for method, one in maps.by_method.items()}
    fitted = baseline_rows(found, "test")
    references = {name: logits_of(baseline(fitted)) for name, baseline in BASELINES.items()}
    return HoldoutPredictions(
        days=prepared.days[rows],
        symbols=np.array([part.symbol for part in prepared.parts])[prepared.symbols[rows]],
        label_ends=prepared.label_ends(rows),
        labels=prepared.labels_of("test"),
        volatility=found.volatility[rows],
        logits={
            MODEL: calibrated[maps.carried],
            "prior": references["prior"],
            ROLLING: logits_of(_rolling(found)),
            **{name: logits for name, logits in references.items() if name != "prior"},
        },
        seeds=seeds,
        calibrated=calibrated,
        carried=maps.carried,
        interval=maps.interval,
        base_rate=float(prepared.labels_of("train").mean()),
        horizon=found.spec.target.horizon,
    )


def rows_before_test(found: TaskData) -> TaskData:
    """Training and validation rows as one, for the model's features and for those of the baselines."""
    prepared = merge_train_validation(found.prepared)
    same = found.stationary is found.prepared
    return replace(found, prepared=prepared, stationary=prepared if same else merge_train_validation(found.stationary))


def seed_models(store: Store, final: RunRecord, known: ReproducedTask) -> dict[int, PatchTransformer]:
    """Seed -> its trained model."""
    return {
        int(one.params["seed"]): load_weights(
            known.spec.architecture,
            store.local_artifact(one.run_id, schema.SEED_WEIGHTS),
            base_width=known.spec.training.base_width,
        )
        for one in query.children(store, final.experiment_id, final.run_id)
    }


def seed_logits(models: Mapping[int, PatchTransformer], found: TaskData) -> dict[int, NDArray[np.float64]]:
    """Seed -> logits of the test rows."""
    dataset = found.prepared.dataset(torch.device("cpu"))
    rows = dataset.rows(found.prepared.split.test)
    return {seed: predict_float64(model, dataset, rows) for seed, model in models.items()}


def chosen_thresholds(store: Store, final: RunRecord, maps: CalibrationMaps) -> dict[str, float]:
    """Chosen on validation days as models saw them that had not been trained on them, calibrated as the answers are."""
    logits, labels = out_of_sample_validation(store, final.experiment_id, final.tags[schema.TRAINED_FROM])
    return thresholds(expit(maps.by_method[maps.carried](logits)), labels)


def _rolling(found: TaskData) -> NDArray[np.float64]:
    """Share of positives among the year of labels that was known at each test row's close, of its own instrument."""
    prepared, test = found.prepared, found.prepared.split.test
    places = prepared.symbols
    rates = np.empty(len(test))
    for place, part in enumerate(prepared.parts):
        mine = places[test] == place
        first = int(np.argmax(places == place))
        rates[mine] = rolling_rate(part.target.labels, test[mine] - first, part.target.spec.horizon)
    return rates
