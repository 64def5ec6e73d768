"""What the last training trains, and what says that it is the same as what was chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.final.calibration import out_of_sample_validation
from pipelines.final.options import TrainOptions
from pipelines.final.rebuild import ReproducedTask, rebuild_task
from pipelines.trial.record import declared_params
from pipelines.trial.task_record import task_tags
from research.evaluation.calibration import Calibration, Method, as_json, fitted
from research.fingerprint import fingerprint
from research.models.budget import Budget
from research.runtime import DEFAULT_THREADS, Runtime, choose_device, hardware
from research.spec import TrialSpec
from research.task.evidence import evidence_of
from research.task.task import Task
from research.task.windows import WindowDataset, merge_train_validation
from research.tracking import query, schema
from research.tracking.provenance import Provenance, provenance
from research.tracking.query import RunRecord
from research.tracking.run_lookup import best_trial
from research.tracking.run_writer import Value
from research.tracking.store import Store

FIRST_FRESH = 1000
"""Distance of the first seed to the trial's own; replicates take those that follow it directly."""
TRAINED_ON = "train+validation"


@dataclass(frozen=True, kw_only=True)
class FinalContext:
    """Everything that the runs of a final training share."""

    store: Store
    experiment_id: str
    task: Task
    budget: Budget
    runtime: Runtime
    provenance: Provenance
    tags: dict[str, str]
    """Tags on all runs of the training."""
    checkpoints: Path
    """Folder with the checkpoints of running seeds."""
    windows: WindowDataset
    """The task's windows on the training device."""


@dataclass(frozen=True, kw_only=True)
class FinalTrainingPlan:
    """What is trained, and what says that it is the same as what was chosen."""

    trial: RunRecord
    """The run whose configuration is trained again."""
    known: ReproducedTask
    context: FinalContext
    """Its study has the joined rows."""
    seeds: tuple[int, ...]
    stop_after: int
    """Epochs: those after which the trial was best."""
    method: Method
    calibration: Calibration
    """Fitted on the validation days as models saw them that had not been trained on them."""
    trained_on: str = TRAINED_ON
    """Which rows, in words."""

    @property
    def title(self) -> str:
        """Name of the run and of the registered model's end, for example `20K-h1`."""
        return f"{self.context.budget.label}-{self.known.task.title}"

    def spec(self, seed: int) -> TrialSpec:
        """The trial's spec on another seed."""
        return replace(self.known.spec, training=replace(self.known.spec.training, seed=seed))

    def params(self, seed: int) -> dict[str, Value]:
        """What a run of this plan says about itself."""
        said: dict[str, Value] = {"trained_on": self.trained_on, "epochs_trained": self.stop_after, "calibration": self.method}
        return {**declared_params(self.spec(seed), self.context.budget), **said}

    @property
    def fingerprint(self) -> str:
        """Equal for two plans that would give the same ensemble."""
        chosen = self.known.spec.config_fingerprint
        identity = {"configuration": chosen, "trained_on": self.trained_on, "epochs": self.stop_after, "seeds": self.seeds}
        # Those of runs without a calibration stay what they were before there was one.
        return fingerprint(identity if self.method == "none" else {**identity, "calibration": as_json(self.calibration)})


def merged_task(task: Task) -> Task:
    """The same study with training and validation rows as one training split."""
    prepared = merge_train_validation(task.prepared)
    return replace(task, prepared=prepared, evidence=evidence_of(prepared))


def plan_training(store: Store, options: TrainOptions, reproduced: ReproducedTask | None = None) -> FinalTrainingPlan:
    """Return the training that the options select; the trial's task is rebuilt if `reproduced` does not give it.

    Raises `InputError` if the data or the code are no longer those of the trial.
    """
    trial = best_trial(store, budget=options.budget, horizon=options.horizon, run=options.run)
    known = reproduced or rebuild_task(store, trial)
    held = store.client.get_run(query.run_with_artifacts(store, trial.run_id)).data.tags
    device = choose_device(options.device)
    precision = held.get(schema.PRECISION, "float32")
    runtime = Runtime(device=device, threads=options.threads or DEFAULT_THREADS, precision=precision)  # type: ignore[arg-type]
    runtime.apply()
    record = provenance(hardware(device))
    task = merged_task(known.task)
    context = FinalContext(
        store=store,
        experiment_id=trial.experiment_id,
        task=task,
        budget=Budget.parse(str(trial.params["budget"])),
        runtime=runtime,
        provenance=record,
        tags={**task_tags(task), **record.tags("tapescale train"), schema.TRAINED_FROM: trial.run_id},
        checkpoints=(store.root / "checkpoints").resolve(),
        windows=task.prepared.dataset(device),
    )
    first = known.spec.training.seed + FIRST_FRESH
    return FinalTrainingPlan(
        trial=trial,
        known=known,
        context=context,
        seeds=tuple(range(first, first + options.seeds)),
        stop_after=int(trial.metrics["best_epoch"]),
        method=options.calibration,
        calibration=fitted(options.calibration, *out_of_sample_validation(store, trial.experiment_id, trial.run_id)),
    )
