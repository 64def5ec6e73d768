"""One trial or baseline: train, score, and leave a complete run behind, whatever happens."""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pipelines.search import Suggested
from pipelines.trial_record import (
    Context,
    applied,
    counted,
    declared,
    require_applied,
    trial_metrics,
    val_metrics,
    write_common,
    write_trial,
)
from research.features.feature_sets import A25S
from research.models.baselines import BASELINES
from research.spec import BaselineSpec, InputError, TrialSpec, canonical_json
from research.tracking import schema
from research.tracking.runs import RunLog
from research.tracking.schema import Outcome
from research.training.metrics import Scores, alarm, logits_of, scores
from research.training.trainer import DivergedError, EpochRecord, Listener, Trainer, build_model


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a trial or baseline ended, for the table and the sampler."""

    run_id: str
    name: str
    kind: str
    outcome: Outcome
    reason: str = ""
    n_parameters: int = 0
    scores: Scores | None = None
    alarm: str = "none"
    spec: TrialSpec | None = None
    seconds: float = 0.0

    @property
    def ending(self) -> str:
        """Outcome, with the alarm if there is one."""
        return self.outcome if self.alarm == "none" else f"{self.outcome}, {self.alarm}"

    @property
    def val_loss(self) -> float:
        """Objective; infinite unless the trial is complete, for sorting only."""
        return self.scores.loss if self.scores and self.outcome == "complete" else float("inf")


class RunListener:
    """Sends epochs to the run's curves and passes them on."""

    def __init__(self, log: RunLog, then: Listener):
        self._log = log
        self._then = then

    def on_epoch(self, record: EpochRecord) -> None:
        """Buffer the epoch's values."""
        for name, value in asdict(record).items():
            if name != "epoch":
                self._log.metric(f"{schema.EPOCH_PREFIX}{name}", value, step=record.epoch)
        self._then.on_epoch(record)


def run_trial(
    context: Context,
    parent_id: str,
    number: int,
    spec: TrialSpec,
    suggested: Suggested,
    proposed_by: str,
    listener: Listener,
    leading_loss: float = float("inf"),
) -> Finished:
    """Train one spec as a nested run. Ctrl-C ends it as `interrupted`; a failure is recorded, not raised.

    `leading_loss` is the best validation loss of the sweep so far: a trial below it also leaves its weights.
    """
    name = f"{number:04d} {spec.architecture.label}"
    log = RunLog.start(
        context.store,
        experiment_id=context.experiment_id,
        kind="trial",
        name=name,
        params={**declared(spec, context), "number": number},
        tags={
            **context.tags,
            schema.TRIAL_FINGERPRINT: spec.fingerprint,
            schema.PROPOSED_BY: proposed_by,
            schema.CONFIG_FINGERPRINT: spec.config_fingerprint,
            schema.SUGGESTED: json.dumps(suggested),
        },
        parent_id=parent_id,
        inputs=context.study.inputs(),
    )
    try:
        return _trained(context, log, name, spec, leading_loss, listener)
    except KeyboardInterrupt:
        log.finish("interrupted", tags={schema.REASON: "stopped by the user"})
        raise
    except Exception as problem:
        outcome, reason = _classify(problem)
        text = traceback.format_exc()
        log.artifacts(lambda folder: _write_text(folder / schema.TRACEBACK_FILE, text))
        epoch = {"diverged_epoch": float(problem.epoch)} if isinstance(problem, DivergedError) else {}
        log.finish(outcome, metrics=epoch, tags={schema.REASON: reason[:500]})
        if isinstance(problem, InputError):
            raise
        return Finished(run_id=log.run_id, name=name, kind="trial", outcome=outcome, reason=reason, spec=spec)


def _classify(problem: Exception) -> tuple[Outcome, str]:
    sentence = f"{type(problem).__name__}: {problem}".splitlines()[0]
    if isinstance(problem, DivergedError):
        return "diverged", str(problem)
    out_of_memory = isinstance(problem, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(problem)
    return ("infeasible", f"out of memory: {sentence}") if out_of_memory else ("crashed", sentence)


def _trained(context: Context, log: RunLog, name: str, spec: TrialSpec, leading_loss: float, listener: Listener) -> Finished:
    study = context.study
    model = build_model(spec.architecture, spec.training, context.runtime.device)
    n_parameters = counted(model, context.budget)
    trainer = Trainer(model, context.dataset, study.prepared.split, spec.training, context.runtime)
    require_applied(declared(spec, context), applied(model, trainer, study))
    result = trainer.run(RunListener(log, listener))
    found = scores(result.val_logits, study.prepared.labels_of("validation"), study.training_base_rate)
    ended = Finished(
        run_id=log.run_id,
        name=name,
        kind="trial",
        outcome="complete",
        n_parameters=n_parameters,
        scores=found,
        alarm=alarm(found),
        spec=spec,
        seconds=sum(r.seconds for r in result.epochs),
    )
    # Only a model that leads its sweep when it ends can become the sweep's best; the others leave no weights.
    kept = model if found.loss < leading_loss else None
    log.artifacts(lambda folder: write_trial(folder, context, spec, result, found, kept))
    log.finish("complete", metrics=trial_metrics(spec, result, found, n_parameters), tags={schema.ALARM: ended.alarm})
    return ended


def run_baseline(context: Context, parent_id: str, name: str) -> Finished:
    """Fit one baseline on the sweep's rows as a nested run."""
    baseline = BASELINES[name]
    study = context.study
    spec = BaselineSpec(study=study.spec, baseline=name, version=baseline.version)
    title = f"baseline {baseline.title}"
    log = RunLog.start(
        context.store,
        experiment_id=context.experiment_id,
        kind="baseline",
        name=title,
        params={
            "baseline": name,
            "budget": context.budget.label,
            **study.params(),
            "feature_set": A25S.name,
            **{f"baseline_{key}": value for key, value in baseline.settings.items()},
        },
        tags={**context.tags, schema.TRIAL_FINGERPRINT: spec.fingerprint, schema.CONFIG_FINGERPRINT: spec.fingerprint},
        parent_id=parent_id,
        inputs=study.inputs(),
    )
    try:
        logits = logits_of(baseline(study.baseline_rows))
    except KeyboardInterrupt:
        log.finish("interrupted", tags={schema.REASON: "stopped by the user"})
        raise
    except Exception as problem:
        log.finish("crashed", tags={schema.REASON: f"{type(problem).__name__}: {problem}"[:500]})
        raise
    found = scores(logits, study.prepared.labels_of("validation"), study.training_base_rate)
    log.artifacts(lambda folder: write_common(folder, context, canonical_json(spec), logits, found))
    log.finish("complete", metrics=val_metrics(found))
    return Finished(run_id=log.run_id, name=baseline.title, kind="baseline", outcome="complete", scores=found)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
