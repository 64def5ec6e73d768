"""The MLflow run of an evaluation: parameters, tags, predictions and figures."""

from __future__ import annotations

import time
from pathlib import Path

from matplotlib.figure import Figure
from scipy.special import expit
from sklearn.metrics import roc_curve

from pipelines.trial import figures
from pipelines.trial.task_record import task_inputs, task_tags
from research.evaluation.holdout import MODEL, Evaluation, HoldoutPredictions, TestSetAccesses
from research.evaluation.metrics import reliability
from research.task.task import Task
from research.tracking import schema
from research.tracking.process_identity import ProcessId
from research.tracking.provenance import Provenance
from research.tracking.query import RunRecord
from research.tracking.run_writer import RunLog
from research.tracking.store import Store
from research.tracking.test_set_access import questions_as_text


def start_evaluation_run(
    store: Store, final: RunRecord, task: Task, accesses: TestSetAccesses, provenance: Provenance
) -> RunLog:
    """Start the run that records the access to the test days, before anything is computed on them."""
    rows = task.prepared.split.test
    inherited = (schema.TRAINED_FROM, schema.CONFIG_FINGERPRINT, schema.FINAL_FINGERPRINT)
    return RunLog.start(
        store,
        experiment_id=final.experiment_id,
        kind="evaluation",
        name=f"evaluation {final.name.removeprefix('final ')}",
        params={
            **final.params,
            "test_start": f"{task.prepared.days[rows].min():%Y-%m-%d}",
            "test_rows": len(rows),
        },
        tags={
            **task_tags(task),
            **provenance.tags("tapescale evaluate"),
            **{name: final.tags[name] for name in inherited},
            schema.FINAL_RUN: final.run_id,
            **_access_tags(accesses),
            schema.OWNER: ProcessId.mine().text(token="", seen=time.time()),
        },
        inputs=task_inputs(task),
    )


def _access_tags(accesses: TestSetAccesses) -> dict[str, str]:
    """Return the counts of earlier accesses as tags."""
    tags = {
        schema.LOOKS_BEFORE: str(accesses.any),
        schema.LOOKS_RELATED: str(accesses.related),
        schema.LOOKS_OTHER: str(sum(accesses.others.values())),
    }
    if accesses.others:
        tags[schema.QUESTIONS_BEFORE] = questions_as_text(accesses.others)
    if accesses.same:
        tags[schema.SECOND_LOOK] = f"{accesses.same} before"
    return tags


def write_evaluation(folder: Path, predictions: HoldoutPredictions, evaluation: Evaluation, provenance: Provenance) -> None:
    """Write every prediction, the figures and the provenance of an evaluation."""
    predictions.table().to_parquet(folder / schema.TEST_PREDICTIONS_FILE, index=False)
    figures.save(_reliability_diagram(predictions), folder / "reliability.png")
    false_positive, true_positive, _ = roc_curve(predictions.labels, predictions.logits[MODEL])
    scores = evaluation.scores
    figures.save(figures.roc(false_positive, true_positive, scores.auc, scores.auc_se), folder / "roc.png")
    provenance.write(folder)


def _reliability_diagram(predictions: HoldoutPredictions) -> Figure:
    """Draw the model's calibration beside its uncalibrated one, or temperature scaling if it is not calibrated."""
    carried = predictions.carried
    other = "temperature" if carried == "none" else "none"
    own_curve, other_curve = (reliability(expit(predictions.calibrated[name]), predictions.labels) for name in (carried, other))
    titles = {"none": "uncalibrated"}
    return figures.reliability(
        own_curve,
        float(predictions.labels.mean()),
        name=titles.get(carried, carried),
        beside=(titles.get(other, f"{other}, not carried"), other_curve),
    )
