"""Every name that is written to MLflow, in one place."""

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
"""Experiment of the runs that say whether both controls passed; their sweeps have experiments of their own."""
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
"""The snapshot that a refreshed one grew from."""
DATA_SET = "data_set"
"""Name of the data set that a snapshot was taken for."""
FEATURE_DIGEST = "feature_digest"
TARGET_DIGEST = "target_digest"
GIT_COMMIT = "git_commit"
GIT_DIRTY = "git_dirty"
SUGGESTED = "suggested"
"""What the sampler proposed, as JSON: enough to tell a fresh sampler about this trial."""
PROPOSED_BY = "proposed_by"
"""`enqueued`, `random` or the sampler's name."""
RANDOM = "random"
"""Value of `proposed_by` of trials that are independent draws; only they tell what a search of n trials may expect."""
THIN_EVIDENCE = "thin_evidence"
"""Present when the evidence floor was overridden, with what was below it."""
BEST_RUN = "best_run_id"
REASON = "reason"
"""Why a trial did not complete, in one sentence."""

OWNER = "owner"
"""Who drives a sweep or a last training, as JSON: host, pid, started (of the process), token, seen (its
last heartbeat, seconds since 1970)."""
ATTEMPT = "attempt"
"""Which attempt of its trial a run is, counted from 1."""
FROM_EPOCH = "from_epoch"
"""Epochs that an attempt took over from the checkpoint of an earlier one."""
WORKER = "worker"
"""The process that trains a run, as JSON: host, pid, started."""
TEMPERATURE = "temperature"
"""Present where a temperature cannot be read: `unknown`, or which one is; it must not pass for a normal one."""
COMPANION_OF = "companion_of"
"""Present on a trial whose architecture is that of another, named here, beside which it was trained as one model."""
PRECISION = "precision"
"""Of training's matrix products: float32 or bfloat16."""
ATTENTION = "attention_kernel"
"""Which way attention was computed: native, sdpa or plain."""
HALVED = "micro_batch_halved"
"""Present when memory ran out and training went on with a smaller micro-batch."""
DEVICES = "devices"
"""Present on a trial that is spread over several devices: how many."""
STARTS = "starts"
"""What each start of a sweep asked for, as a JSON list: grid, ranges, sampler, trials."""
LINKED = "linked_run_id"
"""The finished run with the same fingerprint that a linked run stands for; the artifacts are there."""
REPLICATE_OF = "replicate_of"
"""The searched trial that a replicate repeats on another seed."""
TRIALS_PLANNED = "trials_planned"
"""How many trials the sweep is to have in all."""

SEAL = "seal"
"""Of a forecast: SHA-256 of its file. Another file has another one, and the run is older than the sweep that it foretells."""

LADDER_TARGETS = "ladder_targets"
"""Tag of an experiment, followed by a study's fingerprint: trials in all that each sweep of a ladder is to have, as JSON."""

# Tags of the last training and of the look at the test days.
TRAINED_FROM = "trained_from"
"""The trial whose configuration a final run trains again."""
FINAL_FINGERPRINT = "final_fingerprint"
"""Identity of a final run: configuration, epochs, seeds. The same one is not trained twice."""
FINAL_RUN = "final_run_id"
"""The final run that an evaluation looks at."""
SECOND_LOOK = "second_look"
"""Present on an evaluation whose final run had been evaluated on the same snapshot: how many looks came before."""
LOOKS_BEFORE = "looks_before"
"""How many evaluations of any model of the question had opened some of these test days before."""
LOOKS_RELATED = "looks_before_of_configuration"
"""How many of these were of the same configuration, on other seeds or under another calibration."""
LOOKS_OTHER = "looks_before_of_other_questions"
"""How many evaluations of other questions had opened some of these test days of one of these instruments before."""
QUESTIONS_BEFORE = "questions_before"
"""Which questions those were, each with its number of looks."""

BACKTEST_OF = "backtest_of"
"""The trial or evaluation whose predictions a backtest, a run of kind `report`, has read."""

# Tags of a registered version; of the registered model where that is said.
VAL_LOSS = "val_loss"
"""Lowest validation loss of the trial that the version is, or whose configuration it was trained with."""
EVALUATION_RUN = "evaluation_run_id"
"""The first complete evaluation of the version's run; a version that has it is tested."""
GATES = "gates"
"""What `make promote` found, as JSON: at, evaluation, passed, gates (name, passed, found, needed), and
looks_of_other_questions, which is no gate."""
GATES_PASSED = "gates_passed"
"""`true` where every gate was passed, else `false`."""
FORCED = "forced"
"""Of a version that was promoted: the gates that it had failed, or `no`."""
PROMOTED = "promoted"
"""When the version became champion, instead of which, and by which runs, as JSON: at, replaces, final, evaluation, forced."""
REPLACED = "replaced"
"""When another version became champion instead of this one, as JSON: at, by, final, evaluation."""
ROLLED_BACK = "rolled_back"
"""When this champion was taken back for an earlier one, as JSON: at, to."""
RESTORED = "restored"
"""When this version became champion again by a rollback, as JSON: at, instead_of."""
SUCCESSION = "succession"
"""Of the registered model: versions that were champion one after another, the present one last, without those rolled back."""

# Tags of runs that `make adopt` writes from files of the earlier study.
ADOPTED_FINGERPRINT = "adopted_fingerprint"
"""Identity of an adopted trial; only adopted runs have it, and each value is there once."""
LEGACY_STUDY = "legacy_study"
LEGACY_OUTCOME = "legacy_outcome"
"""How the trial ended by its file: complete, diverged, pruned, failed or interrupted."""
LEGACY_METRIC = "legacy_metric"
"""Name of the metric that was the trial's objective, for example `val_auc`."""
LEGACY_TIMESTAMP = "legacy_timestamp"
SOURCE_FILE = "source_file"
SOURCE_DIGEST = "source_digest"
SOURCE_PLACE = "source_place"
"""Where in the file the trial stands, for example `line 3`."""
DISPUTED = "disputed"
"""What another file says differently of an adopted trial."""
CLAIMED_HORIZON = "claimed_horizon"
"""The earlier study trained on the 1-day label whatever horizon it names: a claim, hence no parameter `horizon`."""
SIZE_CLAIM = "size_claim"
"""Whether the claimed budget lies within the tolerance of the counted size."""
ASSUMED = "assumed"
"""What the file does not say and the count or the metric's name takes for granted."""

# Tags that MLflow's own pages read.
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
SHARED_VIEW = "mlflow.sharedViewState."
"""Of an experiment, followed by a key: which runs, columns and charts its pages show when a link names the key."""
USER = "mlflow.user"
SOURCE_NAME = "mlflow.source.name"
SOURCE_COMMIT = "mlflow.source.git.commit"
CREATION = "mlflow.creationToken"
"""Names one call that creates a run, so that it is not repeated when its answer is lost; the prefix hides it in tables."""

EPOCH_PREFIX = "epoch/"
PROGRESS_STEP = "progress/step"
"""Optimizer steps done, sent every few seconds while a trial trains: what `make status` watches."""
TRAIN_BASE_RATE = "train_base_rate"
"""Share of positives among the training labels: of a final run under this name, of a sweep with its prefix before it."""
LEAST_SEED_SPREAD = "test_seed_spread_least"
"""Standard deviation of the test probabilities of the seed where it is lowest: a collapsed seed hides in a mean."""
SWEEP_PREFIX = "sweep/"
"""The parent's own metrics: a shared name would put it into the children's charts."""

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
"""Of a single seed of a final run: within its model, and nowhere else."""
TRACEBACK_FILE = "traceback.txt"
FORECAST_FILE = "forecast.json"

BASELINE_TITLES = {"prior": "prior", "volatility": "volatility", "logistic": "logistic", "lightgbm": "LightGBM"}
"""Short names in tables and figures, by the parameter `baseline`; any other baseline has its own name there."""


def baseline_titles(names: Iterable[str]) -> dict[str, str]:
    """Short names of these baselines, in the order in which tables show them: the known ones first."""
    there = set(names)
    known = {name: title for name, title in BASELINE_TITLES.items() if name in there}
    return known | {name: name for name in sorted(there - set(known))}


def in_sentence(title: str) -> str:
    """A model's title as a sentence has it: `the logistic regression`, but `LightGBM` and `trees`, which are names."""
    return f"the {title}" if " " in title and title[0].islower() else title


WHOLE_NUMBERS = (
    *("number", "seed", "horizon", "d_model", "n_layers", "n_heads", "d_ff", "context_length", "patch_length", "patch_stride"),
    *("n_features", "n_symbols", "base_width", "warmup_steps", "batch_size", "epochs", "patience", "embargo"),
    *("n_params", "best_epoch", "epochs_run", ATTEMPT, FROM_EPOCH),
)
"""Parameters, metrics and tags that count something; tables give them as whole numbers, also where some runs have none."""
FLAGS = ("window_norm",)
"""Parameters that are yes or no."""

CHAMPION = "champion"
"""Alias of the version that is in use. Only `make promote` and `make rollback` move it."""
CHALLENGER = "challenger"
"""Alias of the version that stands next in line for `champion`; never on the champion itself.

A tested version (`make evaluate` gives it the alias) comes before every untested one. Of untested ones, a sweep's best trial
takes it where no version of the same study was chosen at a lower validation loss, be it the challenger or the champion.
"""
ALIASES = (CHAMPION, CHALLENGER)
"""In the order in which a version to ask is looked for."""
