"""The parent run of a sweep: a live leaderboard, and at the end figures, the best child and its registered model."""

from __future__ import annotations

import json
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pandas as pd

from pipelines.options import SweepOptions
from pipelines.sweep.mlflow_views import describe_experiment, run_page, save_sweep_view, sweep_page
from pipelines.sweep.progress import ROWS_SHOWN
from pipelines.sweep.register import register_best
from pipelines.sweep.replicates import ReplicateSummary, best_configurations, replicated
from pipelines.sweep.search_space import SearchSpace
from pipelines.trial import figures
from pipelines.trial.job import TrialResult
from pipelines.trial.task_record import evidence_metrics, task_inputs, task_params
from research.models.accounting import parameter_count
from research.spec import ArchitectureSpec
from research.tracking import schema
from research.tracking.process_identity import ProcessId
from research.tracking.registry import RegisteredVersion
from research.tracking.run_writer import RunLog, Value

if TYPE_CHECKING:
    from pipelines.sweep.setup import SweepSetup
    from pipelines.sweep.state import Sweep

STARTS_KEPT = 12
"""Starts that fit into a tag."""
COORDINATES = (
    "d_model",
    "n_layers",
    "n_heads",
    "ff_ratio",
    "learning_rate",
    "weight_decay",
    "dropout",
    "warmup_steps",
    "batch_size",
    "val_loss",
)


def open_run(options: SweepOptions, setup: SweepSetup, space: SearchSpace) -> RunLog:
    """Start the parent run with everything that its children share. A later start may change its tags only."""
    log = RunLog.start(
        setup.store,
        experiment_id=setup.experiment_id,
        kind="sweep",
        name=f"{setup.budget.label}-{setup.task.title}",
        params={
            "budget": setup.budget.label,
            **task_params(setup.task),
            "context_length": setup.task.prepared.context_length,
            "epochs": options.epochs,
            "patience": options.patience,
            "seed": options.seed,
            "base_width": options.base_width,
            "optimizer": setup.optimizer,
            "family": options.family,
            "window_norm": options.window_norm,
            "symbol_embedding": options.symbol_embedding,
            **_asked(options, setup.architectures, space),
        },
        tags={**setup.tags, schema.OWNER: ProcessId.mine().text(token="", seen=time.time())},
        inputs=task_inputs(setup.task),
    )
    for name, value in evidence_metrics(setup.task).items():
        log.metric(name, value)
    log.artifacts(setup.provenance.write)
    return log


def note_start(sweep: Sweep) -> None:
    """Add the grid, ranges and number of trials of this start to the parent run."""
    starts = json.loads(sweep.log.tags().get(schema.STARTS, "[]"))
    asked = {**_asked(sweep.options, sweep.architectures, sweep.space), "trials": sweep.total}
    at = datetime.now(UTC).isoformat(timespec="seconds")
    starts.append({"at": at, "by": str(ProcessId.mine()), **asked})
    sweep.log.tag(schema.STARTS, json.dumps(starts[-STARTS_KEPT:]))
    sweep.log.tag(schema.TRIALS_PLANNED, str(sweep.total))
    context = sweep.context
    describe_experiment(context.store, context.experiment_id, context.task)
    save_sweep_view(context.store, context.experiment_id, sweep.title, sweep.log.run_id)


def _asked(options: SweepOptions, architectures: list[ArchitectureSpec], space: SearchSpace) -> dict[str, Value]:
    sizes = [parameter_count(a) for a in architectures]
    return {
        "sampler": options.sampler,
        "pruner": options.pruner,
        "random_share": options.random_share,
        # Only if they were given: the report repeats a start from these parameters.
        **{f"search_{name}": ",".join(map(str, values)) for name, values in _narrowed(options) if values},
        "n_architectures": len(architectures),
        "smallest_architecture": min(sizes),
        "largest_architecture": max(sizes),
        "deepest": max(a.n_layers for a in architectures),
        "widest": max(a.d_model for a in architectures),
        **space.describe(),
    }


def _narrowed(options: SweepOptions) -> list[tuple[str, tuple[int, ...]]]:
    return [("layers", options.layers), ("widths", options.widths), ("heads", options.heads)]


def abandon(sweep: Sweep, problem: BaseException) -> None:
    """Close the parent of a sweep that was stopped. Its finished trials stay and count."""
    stopped = isinstance(problem, KeyboardInterrupt)
    why = "stopped by the user" if stopped else type(problem).__name__
    best = {schema.BEST_RUN: sweep.best.run_id} if sweep.best else {}
    reason = f"{why} after {len(sweep.trials)} of {sweep.total} trials"
    sweep.log.finish("interrupted" if stopped else "crashed", tags={**best, schema.REASON: reason})


def update(sweep: Sweep) -> None:
    """Update the parent's description and its metrics of the search so far."""
    sweep.log.tag(schema.NOTE, description(sweep))
    trials = sweep.trials
    if trials and trials[-1].outcome == "complete" and sweep.best:
        sweep.log.metric(f"{schema.SWEEP_PREFIX}trial_val_loss", trials[-1].val_loss, step=len(trials))
        sweep.log.metric(f"{schema.SWEEP_PREFIX}best_val_loss", sweep.best.val_loss, step=len(trials))


def description(sweep: Sweep) -> str:
    """Return the Markdown of the parent's page."""
    task, target = sweep.context.task, sweep.context.task.spec.target
    where = (sweep.context.experiment_id, sweep.log.run_id)
    lines = [
        f"**{sweep.context.budget.label} parameters, horizon {target.horizon}**, {task.spec.data.title}: {target.question}",
        f"{len(sweep.trials)} of {sweep.total} trials; {len(sweep.architectures)} architectures fit the budget.",
        f"[Table of all runs]({sweep_page(*where)}) · [charts]({sweep_page(*where, charts=True)})" + _best_so_far(sweep),
        "",
        "| run | parameters | val_loss | skill | AUC | outcome |",
        "|---|--:|--:|--:|--:|---|",
    ]
    ranked = sorted((result for result in sweep.finished if result.kind != "replicate"), key=lambda result: result.val_loss)
    return "\n".join(
        [*lines, *(_row(result, run_page(where[0], result.run_id)) for result in ranked[:ROWS_SHOWN]), *_replicate_lines(sweep)]
    )


def _best_so_far(sweep: Sweep) -> str:
    """Return the link to the best trial, early in the text because MLflow hides the rest behind `Show more`."""
    if sweep.best is None:
        return ""
    page = run_page(sweep.context.experiment_id, sweep.best.run_id)
    return f" · best trial [{sweep.best.name}]({page}), val_loss {sweep.best.val_loss:.4f}"


def _replicate_lines(sweep: Sweep) -> list[str]:
    rows = replicates_of(sweep)
    if not rows:
        return []
    heading = ["", "| replicated on fresh seeds | chosen at | mean | sd | seeds |", "|---|--:|--:|--:|--:|"]
    return heading + [
        f"| {row.chosen.name} | {row.chosen.val_loss:.4f} | {row.mean:.4f} | {_sd(row)} | {len(row.losses)} |" for row in rows
    ]


def _sd(row: ReplicateSummary) -> str:
    """One seed has none."""
    return f"{row.sd:.4f}" if len(row.losses) > 1 else ""


def replicates_of(sweep: Sweep) -> list[ReplicateSummary]:
    """Return the summaries of the replicates, best configuration of the search first."""
    return replicated(best_configurations(sweep.trials, sweep.options.replicate_best), sweep.replicates)


def _row(result: TrialResult, page: str) -> str:
    name = f"[*{result.name}*]({page})" if result.kind == "baseline" else f"[{result.name}]({page})"
    if result.scores is None:
        return f"| {name} | | | | | {result.outcome}: {result.reason} |"
    s = result.scores
    size = f"{result.n_parameters:,}" if result.n_parameters else ""
    return f"| {name} | {size} | {s.loss:.4f} | {s.skill:+.3f} | {s.auc:.3f} ± {s.auc_se:.3f} | {result.ending} |"


def close(sweep: Sweep) -> RegisteredVersion | None:
    """Finish the parent with its figures, best child, registered model and outcome."""
    complete = [result for result in sweep.trials if result.outcome == "complete"]
    counts = {
        f"{schema.SWEEP_PREFIX}trials_{outcome}": float(sum(result.outcome == outcome for result in sweep.trials))
        for outcome in schema.STATUS_OF_OUTCOME
    }
    registered = None
    tags: dict[str, str] = {}
    if sweep.best:
        importance = importances(sweep.proposer.study)
        sweep.log.artifacts(lambda folder: _write_figures(folder, sweep, complete, importance))
        registered = register_best(sweep, sweep.best)
        tags[schema.BEST_RUN] = sweep.best.run_id
    for row in replicates_of(sweep):
        counts.update(row.metrics())
    sweep.log.finish("complete" if sweep.best else "crashed", metrics=counts, tags=tags)
    return registered


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the importance of each searched name by PED-ANOVA (Watanabe et al. 2023), or nothing below four trials."""
    if len([trial for trial in study.trials if trial.value is not None]) < 4:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dict(
                optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
            )
        except (ValueError, RuntimeError):
            # Optuna refuses when all trials share a value of every common name; there is then nothing to rank.
            return {}


def coordinates(complete: list[TrialResult]) -> pd.DataFrame:
    """Return one row per complete trial with its searched settings and its loss."""
    rows = []
    for result in complete:
        assert result.spec is not None
        a, t = result.spec.architecture, result.spec.training
        rows.append(
            (
                a.d_model,
                a.n_layers,
                a.n_heads,
                a.d_ff / a.d_model,
                t.learning_rate,
                t.weight_decay,
                t.dropout,
                t.warmup_steps,
                t.batch_size,
                result.val_loss,
            )
        )
    return pd.DataFrame(rows, columns=list(COORDINATES))


def references(sweep: Sweep) -> dict[str, float]:
    """Return the validation losses of the baselines by title."""
    return {result.name: result.val_loss for result in sweep.finished if result.kind == "baseline"}


def _write_figures(folder: Path, sweep: Sweep, complete: list[TrialResult], importance: dict[str, float]) -> None:
    table = coordinates(complete)
    table.insert(0, "trial", [result.name for result in complete])
    table.to_csv(folder / "trials.csv", index=False)
    losses, labels = [result.val_loss for result in complete], [result.name for result in complete]
    figures.save(figures.search_history(losses, labels, references(sweep)), folder / "search_history.png")
    figures.save(figures.parallel_coordinates(table[list(COORDINATES)], "val_loss"), folder / "parallel_coordinates.png")
    if importance:
        figures.save(figures.importances(importance), folder / "parameter_importance.png")
        pd.Series(importance, name="share").rename_axis("name").to_csv(folder / "parameter_importance.csv")
