"""Every name that is written to MLflow, in one place."""

from __future__ import annotations

from typing import Literal

RunKind = Literal["snapshot", "sweep", "trial", "replicate", "baseline", "final", "evaluation", "report", "control"]
Outcome = Literal["complete", "pruned", "diverged", "infeasible", "crashed", "interrupted", "adopted"]

STATUS_OF_OUTCOME: dict[Outcome, str] = {
    "complete": "FINISHED",
    "adopted": "FINISHED",
    "pruned": "KILLED",
    "interrupted": "KILLED",
    "diverged": "FAILED",
    "infeasible": "FAILED",
    "crashed": "FAILED",
}
"""The MLflow status always agrees with the outcome."""

SNAPSHOT_EXPERIMENT = "snapshots"
"""Experiment of snapshot runs; sweeps have experiments named `<data>-<task>`."""

# Tags.
KIND = "run_kind"
OUTCOME = "outcome"
ALARM = "alarm"
SWEEP_FINGERPRINT = "sweep_fingerprint"
STUDY_FINGERPRINT = "study_fingerprint"
TRIAL_FINGERPRINT = "trial_fingerprint"
CONFIG_FINGERPRINT = "config_fingerprint"
SNAPSHOT_DIGEST = "snapshot_digest"
FEATURE_DIGEST = "feature_digest"
TARGET_DIGEST = "target_digest"
GIT_COMMIT = "git_commit"
GIT_DIRTY = "git_dirty"
SUGGESTED = "suggested"
"""What the sampler proposed, as JSON: enough to tell a fresh sampler about this trial."""
PROPOSED_BY = "proposed_by"
"""`enqueued` or the sampler's name."""
THIN_EVIDENCE = "thin_evidence"
"""Present when the evidence floor was overridden, with what was below it."""
BEST_RUN = "best_run_id"
REASON = "reason"
"""Why a trial did not complete, in one sentence."""

OWNER = "owner"
"""Who drives the sweep, as JSON: host, pid, started (of the process), token, seen (last heartbeat, seconds since 1970)."""
ATTEMPT = "attempt"
"""Which attempt of its trial a run is, counted from 1."""
FROM_EPOCH = "from_epoch"
"""Epochs that an attempt took over from the checkpoint of an earlier one."""
LINKED = "linked_run_id"
"""The finished run with the same fingerprint that a linked run stands for; the artifacts are there."""
REPLICATE_OF = "replicate_of"
"""The searched trial that a replicate repeats on another seed."""
TRIALS_PLANNED = "trials_planned"
"""How many trials the sweep is to have in all."""

# Tags that MLflow's own pages read.
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
USER = "mlflow.user"
SOURCE_NAME = "mlflow.source.name"
SOURCE_COMMIT = "mlflow.source.git.commit"

EPOCH_PREFIX = "epoch/"
PROGRESS_STEP = "progress/step"
"""Optimizer steps done, sent every few seconds while a trial trains: what `make status` watches."""
SWEEP_PREFIX = "sweep/"
"""The parent's own metrics: a shared name would put it into the children's charts."""

# Artifacts.
SPEC_FILE = "spec.json"
CURVE_FILE = "curve.csv"
PREDICTIONS_FILE = "predictions_validation.parquet"
MODEL_FOLDER = "model"
WEIGHTS_FILE = "weights.safetensors"
TRACEBACK_FILE = "traceback.txt"

CHALLENGER = "challenger"
