"""What a final run's calibration is fitted on, and how the model that carries it is read back."""

from __future__ import annotations

import json

import numpy as np

from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store
from research.training.ensemble import Answering, answering
from research.training.metrics import Array, Labels, logits_of


def unseen_validation(store: Store, experiment_id: str, trial_id: str) -> tuple[Array, Labels]:
    """Logits and labels of the validation days, by models that were not trained on them: the trial and its replicates.

    Their mean probability, as an ensemble answers. The ensemble itself has been trained on these days and would look
    better calibrated there than it is.
    """
    replicates = query.with_tag(store, experiment_id, schema.REPLICATE_OF, trial_id, kinds=("replicate",))
    runs = [trial_id, *(one.run_id for one in replicates if one.outcome == "complete")]
    tables = [query.predictions(store, run_id) for run_id in runs]
    labels = tables[0]["label"].to_numpy(np.int8)
    assert all(np.array_equal(one["label"], labels) for one in tables)
    return logits_of(np.mean([one["probability"] for one in tables], axis=0)), labels


def carried(store: Store, final: RunRecord) -> Answering:
    """Calibration and interval in the files of a final run's model: what it answers with where it is served."""
    folder = store.local_artifact(final.run_id, schema.MODEL_FOLDER) / "artifacts"
    return answering({file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")})
