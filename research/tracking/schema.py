"""Names of everything that is written to MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

RunKind = Literal[
    "snapshot",
    "sweep",
    "trial",
    "replicate",
    "baseline",
    "final",
    "final_seed",
    "evaluation",
    "retrained",
    "report",
    "control",
    "forecast",
]
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
CONTROL_EXPERIMENT = "controls"
"""Experiment of the runs with the result of both controls; their sweeps have other experiments."""
LEGACY_EXPERIMENT = "legacy-"
"""Adopted results have experiments named `legacy-<task>`."""

# Tags.
KIND = "run_kind"
OUTCOME = "outcome"
ALARM = "alarm"
SWEEP_FINGERPRINT = "sweep_fingerprint"
STUDY_FINGERPRINT = "study_fingerprint"
TRIAL_FINGERPRINT = "trial_fingerprint"
CONFIG_FINGERPRINT = "config_fingerprint"
SNAPSHOT_DIGEST = "snapshot_digest"
PARENT_DIGEST = "parent_digest"
"""Snapshot that a refreshed one replaces."""
DATA_SET = "data_set"
"""Name of the data set of a snapshot."""
FEATURE_DIGEST = "feature_digest"
TARGET_DIGEST = "target_digest"
GIT_COMMIT = "git_commit"
GIT_DIRTY = "git_dirty"
SUGGESTED = "suggested"
"""Suggestion of the sampler as JSON, enough to add the trial to a new sampler."""
PROPOSED_BY = "proposed_by"
"""`enqueued`, `random` or the sampler's name."""
RANDOM = "random"
"""Value of `proposed_by` of independent draws; only these show what a search of n trials may expect."""
THIN_EVIDENCE = "thin_evidence"
"""Splits below the evidence floor; present if the floor was overridden."""
BEST_RUN = "best_run_id"
REASON = "reason"
"""Reason why a trial did not complete, in one sentence."""

OWNER = "owner"
"""Driver of a sweep or a final training, as JSON: host, pid, started (of the process), token, seen (last heartbeat,
seconds since 1970)."""
ATTEMPT = "attempt"
"""Number of the attempt of its trial, from 1."""
FROM_EPOCH = "from_epoch"
"""Epochs that an attempt took from the checkpoint of an earlier one."""
WORKER = "worker"
"""Process that trains a run, as JSON: host, pid, started."""
TEMPERATURE = "temperature"
"""Temperatures that cannot be read; present so that a missing one does not pass for a normal one."""
COMPANION_OF = "companion_of"
"""Name of the trial that a trial of the same architecture was stacked with."""
PRECISION = "precision"
"""Precision of training's matrix products: float32 or bfloat16."""
ATTENTION = "attention_kernel"
"""Kernel that computed attention: native, sdpa or plain."""
HALVED = "micro_batch_halved"
"""Smaller micro-batch after memory ran out; present only then."""
DEVICES = "devices"
"""Number of devices of a trial that uses several."""
STARTS = "starts"
"""Settings of each start of a sweep, as a JSON list: grid, ranges, sampler, trials."""
LINKED = "linked_run_id"
"""Finished run with the same fingerprint that a linked run refers to; it has the artifacts."""
REPLICATE_OF = "replicate_of"
"""Trial that a replicate repeats on another seed."""
TRIALS_PLANNED = "trials_planned"
"""Number of trials that the sweep is to have in total."""

SEAL = "seal"
"""SHA-256 of a forecast's file; its run is older than the sweep that it forecasts."""

LADDER_TARGETS = "ladder_targets"
"""Tag of an experiment, followed by a study's fingerprint: planned trials of each sweep, as JSON."""

# Tags of the last training and of the look at the test days.
TRAINED_FROM = "trained_from"
"""Trial whose configuration a final run trains again."""
FINAL_FINGERPRINT = "final_fingerprint"
"""Identity of a final run: configuration, epochs, seeds. The same identity is not trained twice."""
FINAL_RUN = "final_run_id"
"""Final run of an evaluation."""
SECOND_LOOK = "second_look"
"""Number of earlier evaluations of the same final run on the same snapshot; absent on the first."""
LOOKS_BEFORE = "looks_before"
"""Number of earlier evaluations of any model of the question on some of these test days."""
LOOKS_RELATED = "looks_before_of_configuration"
"""Number of these of the same configuration, with other seeds or calibration."""
LOOKS_OTHER = "looks_before_of_other_questions"
"""Number of earlier evaluations of other questions on some of these test days and instruments."""
QUESTIONS_BEFORE = "questions_before"
"""Those questions, each with its number of evaluations."""

BACKTEST_OF = "backtest_of"
"""Trial or evaluation whose predictions a backtest, a run of kind `report`, has used."""

# Tags of a registered version; of the registered model where that is said.
VAL_LOSS = "val_loss"
"""Lowest validation loss of the version's trial, or of the trial whose configuration it has."""
EVALUATION_RUN = "evaluation_run_id"
"""First complete evaluation of the version's run; a version with it is tested."""
GATES = "gates"
"""Result of `make promote`, as JSON: at, evaluation, passed, gates (name, passed, found, needed), and
looks_of_other_questions, which is no gate."""
GATES_PASSED = "gates_passed"
"""`true` if every gate was passed, else `false`."""
FORCED = "forced"
"""Gates that a promoted version had failed, or `no`."""
PROMOTED = "promoted"
"""Promotion of the version as JSON: at, replaces, final, evaluation, forced."""
REPLACED = "replaced"
"""Replacement of this champion as JSON: at, by, final, evaluation."""
ROLLED_BACK = "rolled_back"
"""Rollback from this champion to an earlier one, as JSON: at, to."""
RESTORED = "restored"
"""Restoration of this version by a rollback, as JSON: at, instead_of."""
SUCCESSION = "succession"
"""Champions of a registered model in order, the present one last, without those rolled back."""

# Tags of runs that `make adopt` writes from files of the earlier study.
ADOPTED_FINGERPRINT = "adopted_fingerprint"
"""Identity of an adopted trial; only adopted runs have it, each value once."""
LEGACY_STUDY = "legacy_study"
LEGACY_OUTCOME = "legacy_outcome"
"""Outcome of the trial in its file: complete, diverged, pruned, failed or interrupted."""
LEGACY_METRIC = "legacy_metric"
"""Name of the metric that was the trial's objective, for example `val_auc`."""
LEGACY_TIMESTAMP = "legacy_timestamp"
SOURCE_FILE = "source_file"
SOURCE_DIGEST = "source_digest"
SOURCE_PLACE = "source_place"
"""Position of the trial in its file, for example `line 3`."""
DISPUTED = "disputed"
"""Contradictions of another file about an adopted trial."""
CLAIMED_HORIZON = "claimed_horizon"
"""The earlier study trained on the 1-day label whatever horizon it names: a claim, hence no parameter `horizon`."""
SIZE_CLAIM = "size_claim"
"""Whether the claimed budget lies within the tolerance of the counted size."""
ASSUMED = "assumed"
"""Assumptions behind the count or the metric's name that the file does not state."""

# Tags that MLflow's own pages read.
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
SHARED_VIEW = "mlflow.sharedViewState."
"""Prefix of an experiment's tags, followed by a key: runs, columns and charts of a saved view."""
USER = "mlflow.user"
SOURCE_NAME = "mlflow.source.name"
SOURCE_COMMIT = "mlflow.source.git.commit"
CREATION = "mlflow.creationToken"
"""Token of the call that creates a run, so that it is not repeated if its answer is lost; the prefix hides it in tables."""

EPOCH_PREFIX = "epoch/"
PROGRESS_STEP = "progress/step"
"""Optimizer steps done, sent every few seconds while a trial trains, for `make status`."""
TRAIN_BASE_RATE = "train_base_rate"
"""Share of positives among the training labels: of a final run under this name, of a sweep with its prefix."""
LEAST_SEED_SPREAD = "test_seed_spread_least"
"""Lowest standard deviation of the test probabilities over the seeds: a mean would hide a collapsed seed."""
SWEEP_PREFIX = "sweep/"
"""Prefix of the parent's metrics: a shared name would appear in the children's charts."""

# Artifacts.
SPEC_FILE = "spec.json"
CURVE_FILE = "curve.csv"
MANIFEST_FILE = "manifest.json"
CHANGES_FILE = "changes.csv"
PREDICTIONS_FILE = "predictions_validation.parquet"
TEST_PREDICTIONS_FILE = "predictions_test.parquet"
WALK_FORWARD_FILE = "predictions_walk_forward.parquet"
MODEL_FOLDER = "model"
OWN_CODE = "tapescale_model_"
"""Start of the name of the package with a model's own code."""
WEIGHTS_FILE = "weights.safetensors"
SEED_WEIGHTS = f"{MODEL_FOLDER}/artifacts/weights_000.safetensors"
"""Weights of a single seed of a final run, inside its model only."""
TRACEBACK_FILE = "traceback.txt"
FORECAST_FILE = "forecast.json"

BASELINE_TITLES = {"prior": "prior", "volatility": "volatility", "logistic": "logistic", "lightgbm": "LightGBM"}
"""Short names in tables and figures, by the parameter `baseline`; any other baseline is shown by its own name."""


def baseline_titles(names: Iterable[str]) -> dict[str, str]:
    """Return the short names of baselines in the order of tables, the known ones first."""
    there = set(names)
    known = {name: title for name, title in BASELINE_TITLES.items() if name in there}
    return known | {name: name for name in sorted(there - set(known))}


def in_sentence(title: str) -> str:
    """Return a model's title for use in a sentence: `the logistic regression`, but `LightGBM` and `trees`, which are names."""
    return f"the {title}" if " " in title and title[0].islower() else title


WHOLE_NUMBERS = (
    *("number", "seed", "horizon", "d_model", "n_layers", "n_heads", "d_ff", "context_length", "patch_length", "patch_stride"),
    *("n_features", "n_symbols", "base_width", "warmup_steps", "batch_size", "epochs", "patience", "embargo"),
    *("n_params", "best_epoch", "epochs_run", ATTEMPT, FROM_EPOCH),
)
"""Parameters, metrics and tags that are counts; tables have them as whole numbers, also if some runs lack them."""
FLAGS = ("window_norm",)
"""Boolean parameters."""

CHAMPION = "champion"
"""Alias of the version that is in use. Only `make promote` and `make rollback` move it."""
CHALLENGER = "challenger"
"""Alias of the version next in line for `champion`; never on the champion itself.

A tested version (`make evaluate` gives it the alias) comes before every untested one. Of untested ones, a sweep's best trial
takes it where no version of the same study was chosen at a lower validation loss, be it the challenger or the champion.
"""
ALIASES = (CHAMPION, CHALLENGER)
"""Aliases in the order in which the answering version is chosen."""
