"""What a final run's calibration is fitted on, and how the model that carries it is read back."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from research.evaluation.calibration import METHODS, Calibration, Method, fitted
from research.evaluation.ensemble import SeedInterval, load_ensemble_output
from research.evaluation.metrics import Array, Labels, logits_of
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store


def out_of_sample_validation(store: Store, experiment_id: str, trial_id: str) -> tuple[Array, Labels]:
    """Logits and labels of the validation days, by models that were not trained on them: the trial and its replicates.

    Their mean probability, as an ensemble answers. The ensemble itself has been trained on these days and would look
    better calibrated there than it is.
    """
    replicates = query.runs_with_tag(store, experiment_id, schema.REPLICATE_OF, trial_id, kinds=("replicate",))
    runs = [trial_id, *(one.run_id for one in replicates if one.outcome == "complete")]
    tables = [query.predictions(store, run_id) for run_id in runs]
    labels = tables[0]["label"].to_numpy(np.int8)
    assert all(np.array_equal(one["label"], labels) for one in tables)
    return logits_of(np.mean([one["probability"] for one in tables], axis=0)), labels


@dataclass(frozen=True, kw_only=True)
class CalibrationMaps:
    """The calibration that a final run's model carries, beside those that it might have been given."""

    by_method: dict[Method, Calibration]
    carried: Method
    interval: SeedInterval | None
    """What the model says of further seeds; None of a single seed."""


def calibration_maps(store: Store, final: RunRecord) -> CalibrationMaps:
    """Every map, fitted on the unseen validation days; that of the model from its files, as it answers where it is served."""
    unseen = out_of_sample_validation(store, final.experiment_id, final.tags[schema.TRAINED_FROM])
    folder = store.local_artifact(final.run_id, schema.MODEL_FOLDER) / "artifacts"
    served = load_ensemble_output({file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")})
    # Those trained before there was any have none.
    method: Method = final.params.get("calibration", "none")  # type: ignore[assignment]
    fits = {one: fitted(one, *unseen) for one in METHODS}
    return CalibrationMaps(by_method={**fits, method: served.calibration}, carried=method, interval=served.interval)
