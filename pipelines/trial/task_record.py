"""The parameters, tags, dataset inputs and counts of a task in a run."""

from __future__ import annotations

import json

import numpy as np

from research.fingerprint import fingerprint
from research.spec import TRANSFORMER
from research.task.task import Task
from research.tracking import schema
from research.tracking.run_writer import Input, Value
from research.tracking.spec_codec import encode, part_params


def task_params(task: Task) -> dict[str, Value]:
    """Return the parameters of a task, read back from the objects that models are given."""
    prepared = task.prepared
    split, features = prepared.split.spec, prepared.parts[0].matrix.spec
    assert split is not None
    (target,) = {part.target.spec for part in prepared.parts}
    return {
        **part_params(features),
        **part_params(target),
        **part_params(split),
        "symbol": encode("symbols", tuple(part.symbol for part in prepared.parts)),
        "validate_on": encode("validate_on", tuple(prepared.validated)),
        "windows_from": prepared.windows_from,
        "train_windows": encode("train_windows", None if split.train_windows is None else len(prepared.split.train)),
    }


def task_tags(task: Task) -> dict[str, str]:
    """Return the tags that identify a run's bytes, features and labels."""
    # Readers of runs separate tasks by this tag, so it also separates families.
    compared = task.spec if task.family == TRANSFORMER else {"study": task.spec, "family": task.family}
    tags = {
        schema.STUDY_FINGERPRINT: fingerprint(compared),
        schema.SNAPSHOT_DIGEST: task.snapshot.digest,
        schema.FEATURE_DIGEST: task.prepared.feature_digest,
        schema.TARGET_DIGEST: task.prepared.target_digest,
    }
    return {**tags, schema.THIN_EVIDENCE: "; ".join(task.thin)} if task.thin else tags


def task_inputs(task: Task) -> list[Input]:
    """Return the dataset inputs of a run."""
    profile = json.dumps({counts.split: counts.n for counts in task.evidence})
    return [
        Input(
            name=f"bars-{task.snapshot.manifest.source}",
            digest=task.snapshot.digest,
            source=str(task.snapshot.folder),
            context="bars",
        ),
        Input(
            name=f"{task.spec.target.name}-h{task.spec.target.horizon}",
            digest=task.prepared.target_digest,
            source=str(task.snapshot.folder),
            context="target",
            profile=profile,
        ),
    ]


def evidence_metrics(task: Task) -> dict[str, float]:
    """Return counts and base rates of each split for the parent run. The test set has its number of days only."""
    metrics = {f"{schema.SWEEP_PREFIX}{name}": value for name, value in data_metrics(task).items()}
    if task.bayes:
        metrics[f"{schema.SWEEP_PREFIX}bayes_loss"] = task.bayes.realised
        metrics[f"{schema.SWEEP_PREFIX}bayes_loss_expected"] = task.bayes.expected
    for counts in task.evidence:
        metrics[f"{schema.SWEEP_PREFIX}{counts.split}_n"] = counts.n
        if counts.split != "test":
            metrics[f"{schema.SWEEP_PREFIX}{counts.split}_positives"] = counts.positives
            metrics[f"{schema.SWEEP_PREFIX}{counts.split}_base_rate"] = counts.base_rate
            metrics[f"{schema.SWEEP_PREFIX}{counts.split}_base_rate_se"] = counts.base_rate_error
    return metrics


def data_metrics(task: Task) -> dict[str, float]:
    """Return the amount of training data: axis D of a scaling law."""
    train = next(counts for counts in task.evidence if counts.split == "train")
    return {
        "n_train_windows": float(train.n),
        "n_train_days": float(train.days),
        # Fewer than the task's symbols if an instrument ended before the newest windows.
        "n_instruments": float(len(np.unique(task.prepared.symbols[task.prepared.split.train]))),
        "n_effective_windows": train.effective,
    }
