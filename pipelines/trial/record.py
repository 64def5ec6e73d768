"""Contents of a trial's run: parameters that are checked to be in use, metrics, and artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import roc_curve
from torch import Tensor

from pipelines.trial import figures
from pipelines.trial.context import SweepContext, WorkerContext
from pipelines.trial.task_record import data_metrics
from research.data.sources import slug
from research.errors import InputError
from research.evaluation.metrics import Scores, reliability, row_losses
from research.fingerprint import canonical_json
from research.models.accounting import parameter_count, training_flops
from research.models.budget import Budget
from research.spec import ArchitectureSpec, TrialSpec
from research.task.task import Task
from research.tracking import schema
from research.tracking.run_writer import Value
from research.tracking.spec_codec import task_params_of_spec
from research.training.checkpoint import save_weights
from research.training.trainer import TrainingResult


def declared_params(spec: TrialSpec, budget: Budget) -> dict[str, Value]:
    """Return the parameters that a trial's run records."""
    return {
        "budget": budget.label,
        **asdict(spec.architecture),
        **asdict(spec.training),
        **task_params_of_spec(spec),
    }


def require_applied(declared: dict[str, Value], used: dict[str, Any]) -> None:
    """Raise `InputError` if a setting in use differs from the declared one. `require_counted_size` checks the budget."""
    unread = set(declared) - set(used) - {"budget"}
    assert not unread, f"declared but never read back: {sorted(unread)}"
    wrong = {name: (declared[name], value) for name, value in used.items() if declared[name] != value}
    if wrong:
        name, (declared_value, value) = next(iter(wrong.items()))
        raise InputError(f"{name}={declared_value} was declared but {value} is in use; nothing was trained.")


def require_counted_size(n_parameters: int, architecture: ArchitectureSpec, budget: Budget) -> None:
    """Raise `InputError` if the built model, or each copy of a stack, does not fit the budget."""
    assert n_parameters == parameter_count(architecture)
    if not budget.admits(n_parameters):
        raise InputError(f"BUDGET={budget.label}: {architecture.label} has {n_parameters:,} parameters, outside ±25%.")


def trial_metrics(
    worker: WorkerContext, spec: TrialSpec, result: TrainingResult, val_scores: Scores, n_parameters: int
) -> dict[str, float]:
    """Return the final metrics of a trial."""
    return {
        **val_metrics(val_scores),
        **data_metrics(worker.sweep.task),
        **losses_by_symbol(worker.sweep.task, result.val_logits),
        "val_loss_last": result.epochs[-1].val_loss,
        "train_loss_best": result.epochs[result.best_epoch - 1].train_loss,
        "best_epoch": result.best_epoch,
        "epochs_run": len(result.epochs),
        "training_seconds": sum(record.seconds for record in result.epochs),
        "n_params": n_parameters,
        "flops_per_sample": training_flops(spec.architecture),
        "samples_per_second": result.samples_per_second,
        "gemm_share": result.samples_per_second * training_flops(spec.architecture) / (result.devices * worker.gemm_rate),
        "peak_memory_bytes": result.peak_memory_bytes,
        "micro_batch": result.micro_batch,
        "side_by_side": result.side_by_side,
        "devices": result.devices,
        "log10_learning_rate": float(np.log10(spec.training.learning_rate)),
    }


def losses_by_symbol(task: Task, logits: NDArray[np.float64]) -> dict[str, float]:
    """Return the validation loss in nats of each instrument, or nothing if only one is validated."""
    prepared = task.prepared
    if len(prepared.validated) == 1:
        return {}
    losses = row_losses(logits, prepared.labels_of("validation"))
    indices = prepared.symbols[prepared.split.validation]
    return {f"val_loss_{slug(prepared.parts[index].symbol)}": losses[indices == index].mean() for index in np.unique(indices)}


def val_metrics(val_scores: Scores) -> dict[str, float]:
    """Return the validation metrics of a trial or baseline."""
    return {f"val_{name}": float(value) for name, value in asdict(val_scores).items()}


def write_trial(
    folder: Path,
    sweep: SweepContext,
    spec: TrialSpec,
    result: TrainingResult,
    val_scores: Scores,
    weights: Mapping[str, Tensor] | None,
) -> None:
    """Write the artifacts of a trial, with its weights unless they are None."""
    write_common(folder, sweep, canonical_json(spec), result.val_logits, val_scores)
    curve = pd.DataFrame([asdict(record) for record in result.epochs])
    curve.to_csv(folder / schema.CURVE_FILE, index=False)
    figure = figures.learning_curve(
        list(curve["train_loss"]), list(curve["val_loss"]), result.best_epoch, val_scores.base_rate_loss
    )
    figures.save(figure, folder / "curve.png")
    if weights is not None:
        save_weights(weights, folder / schema.WEIGHTS_FILE)


def write_common(folder: Path, sweep: SweepContext, spec_json: str, logits: NDArray[np.float64], val_scores: Scores) -> None:
    """Write the spec, dated predictions, reliability and ROC figures, and the environment."""
    labels = sweep.task.prepared.labels_of("validation")
    probabilities = expit(logits)
    (folder / schema.SPEC_FILE).write_text(json.dumps(json.loads(spec_json), indent=2) + "\n")
    prepared = sweep.task.prepared
    rows = prepared.split.validation
    symbols = np.array([part.symbol for part in prepared.parts])[prepared.symbols[rows]]
    columns = {"date": prepared.days[rows], "symbol": symbols, "label_end": prepared.label_ends(rows), "label": labels}
    forecast = {"probability": probabilities, "logit": logits, "loss": row_losses(logits, labels)}
    pd.DataFrame({**columns, **forecast}).to_parquet(folder / schema.PREDICTIONS_FILE, index=False)
    figures.save(figures.reliability(reliability(probabilities, labels), float(labels.mean())), folder / "reliability.png")
    false_positive, true_positive, _ = roc_curve(labels, logits)
    figures.save(figures.roc(false_positive, true_positive, val_scores.auc, val_scores.auc_se), folder / "roc.png")
    sweep.provenance.write(folder)
