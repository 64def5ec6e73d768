"""The plan of a final training: the chosen configuration, its data, seeds and length."""

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
"""Distance of the first fresh seed from the trial's; replicates use the seeds next to the trial's."""
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
    """A chosen configuration with the data, seeds and number of epochs of its final training."""

    trial: RunRecord
    """The run whose configuration is trained again."""
    reproduced: ReproducedTask
    context: FinalContext
    """Shared context; its task has training and validation rows joined."""
    seeds: tuple[int, ...]
    stop_after: int
    """Number of epochs: the best epoch of the trial."""
    method: Method
    calibration: Calibration
    """Calibration fitted on the trial's out-of-sample validation predictions."""
    trained_on: str = TRAINED_ON
    """Training rows, in words."""

    @property
    def title(self) -> str:
        """Suffix of the names of the run and the registered model, for example `20K-h1`."""
        return f"{self.context.budget.label}-{self.reproduced.task.title}"

    def spec(self, seed: int) -> TrialSpec:
        """Return the trial's spec with another seed."""
        return replace(self.reproduced.spec, training=replace(self.reproduced.spec.training, seed=seed))

    def params(self, seed: int) -> dict[str, Value]:
        """Return the parameters of a run of this plan."""
        declared = declared_params(self.spec(seed), self.context.budget)
        return {**declared, "trained_on": self.trained_on, "epochs_trained": self.stop_after, "calibration": self.method}

    @property
    def fingerprint(self) -> str:
        """Fingerprint that two plans share if they train the same ensemble."""
        configuration = self.reproduced.spec.config_fingerprint
        identity = {
            "configuration": configuration,
            "trained_on": self.trained_on,
            "epochs": self.stop_after,
            "seeds": self.seeds,
        }
        # Without a calibration the fingerprint stays that of runs from before there was one.
        return fingerprint(identity if self.method == "none" else {**identity, "calibration": as_json(self.calibration)})


def merged_task(task: Task) -> Task:
    """Return the same task with training and validation rows as one training split."""
    prepared = merge_train_validation(task.prepared)
    return replace(task, prepared=prepared, evidence=evidence_of(prepared))


def plan_training(store: Store, options: TrainOptions, reproduced: ReproducedTask | None = None) -> FinalTrainingPlan:
    """Return the training that the options select; the trial's task is rebuilt if `reproduced` does not give it.

    Raises `InputError` if the data or the code are no longer those of the trial.
    """
    trial = best_trial(store, budget=options.budget, horizon=options.horizon, run=options.run)
    reproduced = reproduced or rebuild_task(store, trial)
    tags = store.client.get_run(query.run_with_artifacts(store, trial.run_id)).data.tags
    device = choose_device(options.device)
    precision = tags.get(schema.PRECISION, "float32")
    runtime = Runtime(device=device, threads=options.threads or DEFAULT_THREADS, precision=precision)  # type: ignore[arg-type]
    runtime.apply()
    record = provenance(hardware(device))
    task = merged_task(reproduced.task)
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
    first = reproduced.spec.training.seed + FIRST_FRESH
    return FinalTrainingPlan(
        trial=trial,
        reproduced=reproduced,
        context=context,
        seeds=tuple(range(first, first + options.seeds)),
        stop_after=int(trial.metrics["best_epoch"]),
        method=options.calibration,
        calibration=fitted(options.calibration, *out_of_sample_validation(store, trial.experiment_id, trial.run_id)),
    )
