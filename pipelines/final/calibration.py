"""Calibration maps of a final run: fitted on validation days, or read from its registered model."""

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
    """Return logits and labels (N,) of the validation days from models not trained on them: the trial and its replicates.

    The logits are those of the mean probability, as in an ensemble. The final ensemble itself was trained on these days, so
    that it would look better calibrated there than it is.
    """
    replicates = query.runs_with_tag(store, experiment_id, schema.REPLICATE_OF, trial_id, kinds=("replicate",))
    run_ids = [trial_id, *(run.run_id for run in replicates if run.outcome == "complete")]
    tables = [query.predictions(store, run_id) for run_id in run_ids]
    labels = tables[0]["label"].to_numpy(np.int8)
    assert all(np.array_equal(table["label"], labels) for table in tables)
    return logits_of(np.mean([table["probability"] for table in tables], axis=0)), labels


@dataclass(frozen=True, kw_only=True)
class CalibrationMaps:
    """The calibration map that a final run's model carries, with the alternatives to it."""

    by_method: dict[Method, Calibration]
    carried: Method
    interval: SeedInterval | None
    """Interval over further seeds; None for a single seed."""


def calibration_maps(store: Store, final: RunRecord) -> CalibrationMaps:
    """Return every map fitted on out-of-sample validation days; the carried one is read from the model, as it is served."""
    validation = out_of_sample_validation(store, final.experiment_id, final.tags[schema.TRAINED_FROM])
    folder = store.local_artifact(final.run_id, schema.MODEL_FOLDER) / "artifacts"
    served = load_ensemble_output({file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")})
    # Final runs from before there was a calibration have no such parameter.
    carried: Method = final.params.get("calibration", "none")  # type: ignore[assignment]
    maps = {method: fitted(method, *validation) for method in METHODS}
    return CalibrationMaps(by_method={**maps, carried: served.calibration}, carried=carried, interval=served.interval)
