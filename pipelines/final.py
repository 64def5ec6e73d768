"""The last training: one configuration, all rows before the test, several fresh seeds, one ensemble."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from pipelines.attempt import RunListener
from pipelines.calibrating import unseen_validation
from pipelines.champion import log_model
from pipelines.final_options import TrainOptions
from pipelines.job import Job
from pipelines.lease import Lease, only_driver
from pipelines.orphans import close_dead_trainings
from pipelines.rebuild import Rebuilt, best_trial, rebuilt
from pipelines.room import InfeasibleError, micro_batch_for
from pipelines.study import Study
from pipelines.trial_record import Context, counted, declared, require_applied
from research.models.architectures import Budget
from research.runtime import DEFAULT_THREADS, Runtime, choose_device, hardware
from research.spec import InputError, TrialSpec, canonical_json, fingerprint, require
from research.tracking import query, schema
from research.tracking.owner import ProcessId
from research.tracking.provenance import provenance
from research.tracking.query import RunRecord
from research.tracking.registry import Registered, register_apart
from research.tracking.runs import RunLog, Value
from research.tracking.store import Store
from research.training.calibration import Calibration, Method, as_json, fitted
from research.training.checkpoint import load_weights, save_weights
from research.training.ensemble import Answering, SeedInterval, seed_interval
from research.training.final import FinalTrainer
from research.training.member import EpochRecord
from research.training.readback import in_use, parameters_of
from research.training.trainer import TrainingResult, build_model
from research.windows.dataset import joined, predict
from research.windows.evidence import evidence_of

FIRST_FRESH = 1000
"""Distance of the first seed to the trial's own; replicates take those that follow it directly."""
TRAINED_ON = "train+validation"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, and what says that it is the same as what was chosen."""

    trial: RunRecord
    """The run whose configuration is trained again."""
    known: Rebuilt
    context: Context
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
        return f"{self.context.budget.label}-{self.known.study.title}"

    def spec(self, seed: int) -> TrialSpec:
        """The trial's spec on another seed."""
        return replace(self.known.spec, training=replace(self.known.spec.training, seed=seed))

    def params(self, seed: int) -> dict[str, Value]:
        """What a run of this plan says about itself."""
        said: dict[str, Value] = {"trained_on": self.trained_on, "epochs_trained": self.stop_after, "calibration": self.method}
        return {**declared(self.spec(seed), self.context), **said}

    @property
    def fingerprint(self) -> str:
        """Equal for two plans that would give the same ensemble."""
        chosen = self.known.spec.config_fingerprint
        identity = {"configuration": chosen, "trained_on": self.trained_on, "epochs": self.stop_after, "seeds": self.seeds}
        # Those of runs without a calibration stay what they were before there was one.
        return fingerprint(identity if self.method == "none" else {**identity, "calibration": as_json(self.calibration)})


def joined_study(study: Study) -> Study:
    """The same study with training and validation rows as one training split."""
    prepared = joined(study.prepared)
    return replace(study, prepared=prepared, evidence=evidence_of(prepared))


def train_final(store: Store, options: TrainOptions, console: Console) -> str:
    """Train, log and register; returns the run id of the final run, of the one that is there if it has been trained."""
    plan = planned(store, options)
    _print_opening(plan, console)
    with only_driver(store, f"final-{plan.fingerprint}", "training"):
        close_dead_trainings(store)
        done = query.with_tag(store, plan.context.experiment_id, schema.FINAL_FINGERPRINT, plan.fingerprint, kinds=("final",))
        if known := next((one for one in done if one.outcome == "complete"), None):
            # A kill after the last word to the run may have come before the version.
            _register(plan, known.run_id)
            console.print(f"trained before as run {known.run_id}; nothing to do", highlight=False)
            console.print(f"next  make evaluate RUN={known.run_id[:12]}", highlight=False)
            return known.run_id
        log = _open(plan)
        with log.ending(), Lease(log):
            weights = [_train_seed(plan, log.run_id, seed, console) for seed in plan.seeds]
            _conclude(plan, log, weights)
        registered = _register(plan, log.run_id)
    console.print(f"\nregistered {registered.name} version {registered.version}; no alias was moved", highlight=False)
    console.print(f"next  make evaluate RUN={log.run_id[:12]}   (opens the test days, once)", highlight=False)
    return log.run_id


def planned(store: Store, options: TrainOptions) -> Plan:
    """What these options ask for; `InputError` where the data or the code are no longer those of the trial."""
    trial = best_trial(store, budget=options.budget, horizon=options.horizon, run=options.run)
    known = rebuilt(store, trial)
    held = store.client.get_run(query.holder(store, trial.run_id)).data.tags
    device = choose_device(options.device)
    precision = held.get(schema.PRECISION, "float32")
    runtime = Runtime(device=device, threads=options.threads or DEFAULT_THREADS, precision=precision)  # type: ignore[arg-type]
    runtime.apply()
    record = provenance(hardware(device))
    study = joined_study(known.study)
    context = Context(
        store=store,
        experiment_id=trial.experiment_id,
        study=study,
        budget=Budget.parse(str(trial.params["budget"])),
        optimizer=known.spec.training.optimizer,
        runtime=runtime,
        provenance=record,
        tags={**study.tags(), **record.tags("pipelines.train"), schema.TRAINED_FROM: trial.run_id},
        checkpoints=(store.root / "checkpoints").resolve(),
    )
    first = known.spec.training.seed + FIRST_FRESH
    return Plan(
        trial=trial,
        known=known,
        context=replace(context, dataset=study.prepared.dataset(device)),
        seeds=tuple(range(first, first + options.seeds)),
        stop_after=int(trial.metrics["best_epoch"]),
        method=options.calibration,
        calibration=fitted(options.calibration, *unseen_validation(store, trial.experiment_id, trial.run_id)),
    )


def _open(plan: Plan) -> RunLog:
    """The parent, with what its seeds share; the spec beside it is the trial's own."""
    context, spec = plan.context, plan.known.spec
    log = RunLog.start(
        context.store,
        experiment_id=context.experiment_id,
        kind="final",
        name=f"final {plan.title}",
        params={**plan.params(spec.training.seed), "seeds": ",".join(map(str, plan.seeds))},
        tags={
            **context.tags,
            schema.TRIAL_FINGERPRINT: spec.fingerprint,
            schema.CONFIG_FINGERPRINT: spec.config_fingerprint,
            schema.FINAL_FINGERPRINT: plan.fingerprint,
            schema.OWNER: ProcessId.mine().text(token="", seen=time.time()),
        },
        inputs=context.study.inputs(),
    )

    def write(folder: Path) -> None:
        _write_spec(spec, folder)
        context.provenance.write(folder)

    log.artifacts(write)
    return log


def _train_seed(plan: Plan, parent_id: str, seed: int, console: Console) -> Path:
    """Train one seed; returns where its weights lie."""
    run_id, result = train_seed(plan, parent_id, seed, kind="final_seed")
    seconds = sum(one.seconds for one in result.epochs)
    console.print(f"seed {seed}: training loss {result.epochs[-1].train_loss:.4f}, {seconds:.0f} s", highlight=False)
    return plan.context.store.local_artifact(run_id, schema.WEIGHTS_FILE)


def train_seed(
    plan: Plan, parent_id: str, seed: int, *, kind: Literal["final_seed", "retrained"]
) -> tuple[str, TrainingResult]:
    """Train one seed as a nested run, which keeps the weights of a `final_seed`; returns the run and its result."""
    context, spec = plan.context, plan.spec(seed)
    log = RunLog.start(
        context.store,
        experiment_id=context.experiment_id,
        kind=kind,
        name=f"{plan.trained_on} seed {seed}" if kind == "retrained" else f"seed {seed} {spec.architecture.label}",
        params=plan.params(seed),
        tags={
            **context.tags,
            schema.TRIAL_FINGERPRINT: spec.fingerprint,
            schema.CONFIG_FINGERPRINT: spec.config_fingerprint,
            **context.how_computed(spec.architecture),
        },
        parent_id=parent_id,
        inputs=context.study.inputs(),
    )
    with log.ending():
        result = _trained(plan, spec, log)
        log.artifacts(lambda folder: _write_seed(folder, spec, result, context, weights=kind == "final_seed"))
    last = result.epochs[-1]
    seconds = sum(one.seconds for one in result.epochs)
    found = {"train_loss_last": last.train_loss, "epochs_run": float(len(result.epochs)), "training_seconds": seconds}
    size = {"n_params": plan.trial.metrics["n_params"], "samples_per_second": result.samples_per_second}
    log.finish("complete", metrics={**found, **size, **context.study.data_metrics()})
    return log.run_id, result


def _trained(plan: Plan, spec: TrialSpec, log: RunLog) -> TrainingResult:
    context = plan.context
    try:
        micro_batch = micro_batch_for(context, Job(number=int(plan.trial.params["number"]), spec=spec))
    except InfeasibleError as problem:
        raise InputError(f"DEVICE={context.runtime.device}: {problem}; give a device with more memory.") from None
    runtime = replace(context.runtime, micro_batch=micro_batch)
    model = build_model(spec.architecture, spec.training, runtime.device)
    trainer = FinalTrainer(
        model, context.windows, context.study.prepared.split, spec.training, runtime, stop_after=plan.stop_after
    )
    _require_same(plan, spec, parameters_of(model), trainer)

    def heard(_: EpochRecord) -> bool:
        return True

    # An interrupted seed goes on from here when the command is given again.
    checkpoint = (
        context.checkpoints / f"final-{fingerprint({'plan': plan.fingerprint, 'seed': spec.training.seed})}.safetensors"
    )
    result = trainer.run(RunListener(log, heard), checkpoint)
    checkpoint.unlink(missing_ok=True)
    return result


def _require_same(plan: Plan, spec: TrialSpec, n_parameters: int, trainer: FinalTrainer) -> None:
    """What was chosen must be what is trained: its size, its settings, its question."""
    counted(n_parameters, spec.architecture, plan.context.budget)
    chosen = int(plan.trial.metrics["n_params"])
    require(n_parameters == chosen, "n_params", chosen, f"the model built here has {n_parameters:,}; nothing was trained.")
    # Validated instruments and training windows are read off the study before its splits were joined.
    require_applied(declared(spec, plan.context), {**in_use(trainer), **plan.known.study.params()})


def _conclude(plan: Plan, log: RunLog, weights: list[Path]) -> None:
    study = plan.context.study
    interval = _interval(plan, weights) if len(weights) > 1 else None
    answering = Answering(calibration=plan.calibration, interval=interval)
    log_model(plan.context.store, log.run_id, study, plan.known.spec, weights, answering)
    told = {"n_params": plan.trial.metrics["n_params"], schema.TRAIN_BASE_RATE: study.training_base_rate}
    width = {"seed_interval_half_width": interval.half_width} if interval else {}
    log.finish("complete", metrics={**told, **width, **study.data_metrics()})


def _register(plan: Plan, run_id: str) -> Registered:
    label = plan.known.spec.architecture.label
    return register_apart(
        plan.context.store,
        name=f"{plan.known.study.experiment}-{plan.title}",
        run_id=run_id,
        val_loss=plan.trial.metrics["val_loss"],
        study=plan.context.tags[schema.STUDY_FINGERPRINT],
        description=f"final: {label}, mean probability of {len(plan.seeds)} seeds, trained on {TRAINED_ON}.",
    )


def _interval(plan: Plan, weights: list[Path]) -> SeedInterval:
    """From what the seeds say of the validation days: they are the newest before the test."""
    spec = plan.known.spec
    dataset = plan.context.study.prepared.dataset(torch.device("cpu"))
    rows = dataset.rows(plan.known.study.prepared.split.validation)
    models = (load_weights(spec.architecture, one, base_width=spec.training.base_width) for one in weights)
    return seed_interval(np.stack([predict(model, dataset, rows) for model in models]))


def _write_seed(folder: Path, spec: TrialSpec, result: TrainingResult, context: Context, *, weights: bool) -> None:
    _write_spec(spec, folder)
    curve = pd.DataFrame([asdict(record) for record in result.epochs]).drop(columns="val_loss")
    curve.to_csv(folder / schema.CURVE_FILE, index=False)
    if weights:
        save_weights(result.weights, folder / schema.WEIGHTS_FILE)
    context.provenance.write(folder)


def _write_spec(spec: TrialSpec, folder: Path) -> None:
    (folder / schema.SPEC_FILE).write_text(json.dumps(json.loads(canonical_json(spec)), indent=2) + "\n")


def _print_opening(plan: Plan, console: Console) -> None:
    study, trial = plan.context.study, plan.trial
    days = study.prepared.days[study.prepared.split.train]
    epochs = f"{plan.stop_after} epoch{'s' if plan.stop_after > 1 else ''}"
    for line in (
        f"chosen     {trial.name} (run {trial.run_id[:12]}): {int(trial.metrics['n_params']):,} parameters, "
        f"val_loss {trial.metrics['val_loss']:.4f} after {epochs}",
        f"question   {study.spec.target.question} features {study.spec.features.feature_set}; "
        f"snapshot {study.snapshot.digest}, features and labels as they were",
        f"training   {len(days):,} rows {days.min():%Y-%m-%d} .. {days.max():%Y-%m-%d}: training and validation together, "
        "no label reaches into the test",
        f"length     {epochs} at the trial's own learning rates; nothing is left to stop on",
    ):
        console.print(line, soft_wrap=True, highlight=False)
