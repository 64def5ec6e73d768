"""What a trial's run holds: parameters that were proved to be in use, metrics, artifacts."""

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
from pipelines.trial.context import Context
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


def declared_params(spec: TrialSpec, context: Context) -> dict[str, Value]:
    """What a trial's run says about itself."""
    return {
        "budget": context.budget.label,
        **asdict(spec.architecture),
        **asdict(spec.training),
        **task_params_of_spec(spec),
    }


def require_applied(said: dict[str, Value], used: dict[str, Any]) -> None:
    """Declared = applied: any difference is an error before the first step. The budget is held to by `require_counted_size`."""
    unread = set(said) - set(used) - {"budget"}
    assert not unread, f"declared but never read back: {sorted(unread)}"
    wrong = {name: (said[name], value) for name, value in used.items() if said[name] != value}
    if wrong:
        name, (logged, value) = next(iter(wrong.items()))
        raise InputError(f"{name}={logged} was declared but {value} is in use; nothing was trained.")


def require_counted_size(n_parameters: int, architecture: ArchitectureSpec, budget: Budget) -> None:
    """Parameters of the built model, or of each copy of a stack, must agree with the closed form and fit the budget."""
    assert n_parameters == parameter_count(architecture)
    if not budget.admits(n_parameters):
        raise InputError(f"BUDGET={budget.label}: {architecture.label} has {n_parameters:,} parameters, outside ±25%.")


def trial_metrics(
    context: Context, spec: TrialSpec, result: TrainingResult, found: Scores, n_parameters: int
) -> dict[str, float]:
    """Final metrics of a trial."""
    return {
        **val_metrics(found),
        **data_metrics(context.task),
        **losses_by_symbol(context.task, result.val_logits),
        "val_loss_last": result.epochs[-1].val_loss,
        "train_loss_best": result.epochs[result.best_epoch - 1].train_loss,
        "best_epoch": result.best_epoch,
        "epochs_run": len(result.epochs),
        "training_seconds": sum(record.seconds for record in result.epochs),
        "n_params": n_parameters,
        "flops_per_sample": training_flops(spec.architecture),
        "samples_per_second": result.samples_per_second,
        "gemm_share": result.samples_per_second * training_flops(spec.architecture) / (result.devices * context.gemm_rate),
        "peak_memory_bytes": result.peak_memory_bytes,
        "micro_batch": result.micro_batch,
        "side_by_side": result.side_by_side,
        "devices": result.devices,
        "log10_learning_rate": float(np.log10(spec.training.learning_rate)),
    }


def losses_by_symbol(task: Task, logits: NDArray[np.float64]) -> dict[str, float]:
    """Validation loss of each instrument, where several are validated."""
    prepared = task.prepared
    losses = row_losses(logits, prepared.labels_of("validation"))
    places = prepared.symbols[prepared.split.validation]
    if len(prepared.validated) == 1:
        return {}
    return {f"val_loss_{slug(prepared.parts[place].symbol)}": losses[places == place].mean() for place in np.unique(places)}


def val_metrics(found: Scores) -> dict[str, float]:
    """Validation metrics of a trial or baseline."""
    return {f"val_{name}": float(value) for name, value in asdict(found).items()}


def write_trial(
    folder: Path, context: Context, spec: TrialSpec, result: TrainingResult, found: Scores, kept: Mapping[str, Tensor] | None
) -> None:
    """Artifacts of a trial; weights only where they are to be kept."""
    write_common(folder, context, canonical_json(spec), result.val_logits, found)
    curve = pd.DataFrame([asdict(record) for record in result.epochs])
    curve.to_csv(folder / schema.CURVE_FILE, index=False)
    figure = figures.learning_curve(list(curve["train_loss"]), list(curve["val_loss"]), result.best_epoch, found.base_rate_loss)
    figures.save(figure, folder / "curve.png")
    if kept is not None:
        save_weights(kept, folder / schema.WEIGHTS_FILE)


def write_common(folder: Path, context: Context, spec_json: str, logits: NDArray[np.float64], found: Scores) -> None:
    """Spec, predictions with dates, reliability and ROC figures, environment."""
    labels = context.task.prepared.labels_of("validation")
    probabilities = expit(logits)
    (folder / schema.SPEC_FILE).write_text(json.dumps(json.loads(spec_json), indent=2) + "\n")
    prepared = context.task.prepared
    rows = prepared.split.validation
    symbols = np.array([part.symbol for part in prepared.parts])[prepared.symbols[rows]]
    columns = {"date": prepared.days[rows], "symbol": symbols, "label_end": prepared.label_ends(rows), "label": labels}
    forecast = {"probability": probabilities, "logit": logits, "loss": row_losses(logits, labels)}
    pd.DataFrame({**columns, **forecast}).to_parquet(folder / schema.PREDICTIONS_FILE, index=False)
    figures.save(figures.reliability(reliability(probabilities, labels), float(labels.mean())), folder / "reliability.png")
    false_positive, true_positive, _ = roc_curve(labels, logits)
    figures.save(figures.roc(false_positive, true_positive, found.auc, found.auc_se), folder / "roc.png")
    context.provenance.write(folder)
