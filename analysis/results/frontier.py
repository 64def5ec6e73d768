"""The best trial of each budget and the baselines on the same rows, with the uncertainty of their comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.errors import InputError
from research.evaluation.significance import Difference, daily_means, paired_difference
from research.tracking import query, schema
from research.tracking.store import Store

QUESTION = ["experiment", schema.STUDY_FINGERPRINT, "context_length", "horizon"]
"""Columns that comparable trials share: same bars, labels, split, training windows and horizon."""
SETTING = (
    *(schema.TARGET_DIGEST, schema.FEATURE_DIGEST),
    *("validate_on", "context_length", "train_end", "validation_end", "test_end", "embargo", "windows_from"),
)
"""Columns in which studies agree that differ in their training windows only."""
FAILURES = ("diverged", "infeasible", "crashed")
"""Outcomes that count as failed; resuming a sweep retries its interrupted trials."""
SHAPE = ("n_layers", "d_model", "n_heads", "d_ff")
SEARCHED = (*SHAPE, "learning_rate", "dropout", "weight_decay", "warmup_steps", "batch_size")
"""Settings that a search varies within a budget."""
RANDOM_ENDINGS = ("complete", "diverged")
"""Outcomes with which a random draw counts; a crash or lack of memory is no property of the drawn configuration."""
COST = ("flops_per_sample", "epochs_run")
"""Factors of a trial's training compute, besides the number of windows."""
COLUMNS = (schema.PROPOSED_BY, schema.CONFIG_FINGERPRINT, *SEARCHED, *COST, *SETTING, "train_windows", "baseline")
"""Optional columns: runs of earlier versions lack some."""


@dataclass(frozen=True, kw_only=True)
class BudgetResult:
    """The best trial of one budget, with the other trials' losses."""

    budget: str
    run_id: str
    architecture: str
    n_params: int
    """Parameters of the built model."""
    val_loss: float
    skill: float
    """Relative improvement over the training base rate on the same rows."""
    auc: float
    auc_se: float
    alarm: str
    complete: int
    """Number of trials that ended with a loss."""
    failed: int
    """Number of trials that diverged, crashed or did not fit in memory."""
    against: dict[str, Difference]
    """Baseline -> this trial's loss minus the baseline's, per day."""
    day_losses: NDArray[np.float64]
    """Loss of each validation day, in order."""
    config: str = ""
    """Fingerprint of the configuration without its seed."""
    random_losses: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Losses of the random trials; a diverged one counts with the base-rate loss, which needs no model."""
    replicates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Configuration -> losses on fresh seeds, for every replicated configuration of the budget."""


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """The results of all budgets of one question."""

    experiment: str
    study: str
    """Fingerprint of data, features, target and split."""
    horizon: int
    features: str
    context_length: int
    n_days: int
    """Number of validation days, the same for every model."""
    n_train_windows: int
    n_effective_windows: float
    """Number of independent labels with the information of the training labels."""
    instruments: str
    """Training symbols."""
    setting: tuple[str, ...]
    """Labels, features, dates and validated instruments: the study without its training windows."""
    base_rate_loss: float
    entries: list[BudgetResult]
    """Results by parameter count, smallest first."""
    baselines: dict[str, float]
    """Baseline -> validation loss."""
    trials: pd.DataFrame
    """Every complete trial: budget, name, n_params, val_loss, run_id, proposed_by, the searched settings and the cost."""
    train_windows: str = "all"
    """Requested number of training windows."""
    baseline_losses: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Baseline -> loss of each validation day, in order."""
    baseline_runs: Mapping[str, str] = field(default_factory=dict)
    """Baseline -> run id."""

    @property
    def key(self) -> tuple[str, int]:
        """Unique key within a store: one study can have several context lengths."""
        return (self.study, self.context_length)

    @property
    def question(self) -> tuple[str, ...]:
        """Properties shared by questions that differ in the horizon only, the experiment first."""
        # The first part of a setting is the digest of the labels, which differs between horizons.
        return (self.experiment, self.features, self.instruments, self.train_windows, *self.setting[1:])


def frontiers(store: Store, experiment: str | None) -> list[Frontier]:
    """Return one frontier per question in the store; raise `InputError` if no trial has finished.

    One query reads all runs. Prediction files are read only for the best trials and the baselines.
    """
    table = query.runs(store, kinds=("trial", "baseline", "replicate"), experiment=experiment, adopted=False)
    where = f" in experiment {experiment}" if experiment else ""
    trials = table[table[schema.KIND] == "trial"] if not table.empty else table
    if schema.OUTCOME not in trials or not (trials[schema.OUTCOME] == "complete").any():
        raise InputError(f"STORE={store.root.name}: no finished trial{where} yet; start with `make sweep`.")
    if "validate_on" not in table:
        raise InputError(
            f"STORE={store.root.name}: its trials{where} are of an older version, which did not log the validated "
            "instruments; run the same sweep commands again."
        )
    # Runs of that version in a store with newer ones have no validate_on and no context of their baselines.
    table = table[table["validate_on"].notna()]
    table = table.reindex(columns=[*table.columns, *(name for name in COLUMNS if name not in table)])
    candidates = [_frontier(store, str(name), part) for (name, *_), part in table.groupby(QUESTION, sort=True)]
    complete = [frontier for frontier in candidates if frontier is not None]
    return sorted(complete, key=lambda frontier: (frontier.experiment, frontier.horizon))


def _frontier(store: Store, experiment: str, table: pd.DataFrame) -> Frontier | None:
    """Return the frontier from all runs of one question; None if no trial is complete."""
    trials = _distinct(table[table[schema.KIND] == "trial"], ["complete"])
    if trials.empty:
        return None
    baselines = _distinct(table[table[schema.KIND] == "baseline"], ["complete"]).set_index("baseline")
    runs = {str(name): str(run_id) for name, run_id in baselines["run_id"].items()}
    losses = {name: day_losses(store, run_id) for name, run_id in runs.items()}
    finished = table[table["budget"].isin(trials["budget"])]
    entries = [_entry(store, part, losses) for _, part in finished.groupby("budget", sort=False)]
    columns = ["budget", "name", "n_params", "val_loss", "run_id", schema.PROPOSED_BY, *SEARCHED, *COST]
    first = trials.iloc[0]
    return Frontier(
        experiment=experiment,
        study=str(first[schema.STUDY_FINGERPRINT]),
        horizon=int(first["horizon"]),
        features=str(first["feature_set"]),
        context_length=int(first["context_length"]),
        n_days=len(entries[0].day_losses),
        n_train_windows=int(first["n_train_windows"]),
        n_effective_windows=float(first["n_effective_windows"]),
        instruments=str(first["symbol"]),
        setting=tuple(str(first[name]) for name in SETTING),
        base_rate_loss=float(first["val_base_rate_loss"]),
        entries=sorted(entries, key=lambda entry: entry.n_params),
        baselines={str(name): float(loss) for name, loss in baselines["val_loss"].items()},
        trials=trials[columns].reset_index(drop=True),
        train_windows=str(first["train_windows"]),
        baseline_losses=losses,
        baseline_runs=runs,
    )


def _entry(store: Store, runs: pd.DataFrame, baselines: dict[str, NDArray[np.float64]]) -> BudgetResult:
    """Return the result of one budget from all its runs."""
    tried = runs[runs[schema.KIND] == "trial"]
    complete = _distinct(tried, ["complete"])
    best: dict[Any, Any] = complete.sort_values("val_loss", kind="stable").iloc[0].to_dict()
    best_losses = day_losses(store, best["run_id"])
    drawn = _distinct(tried[tried[schema.PROPOSED_BY] == schema.RANDOM], RANDOM_ENDINGS)
    random_losses = drawn["val_loss"].where(drawn[schema.OUTCOME] == "complete", best["val_base_rate_loss"])
    replicates = _distinct(runs[runs[schema.KIND] == "replicate"], ["complete"])
    return BudgetResult(
        budget=str(best["budget"]),
        run_id=best["run_id"],
        architecture=str(best["name"]).split(maxsplit=1)[1],
        n_params=int(best["n_params"]),
        val_loss=best["val_loss"],
        skill=best["val_skill"],
        auc=best["val_auc"],
        auc_se=best["val_auc_se"],
        alarm=best[schema.ALARM],
        complete=len(complete),
        failed=int(tried[schema.OUTCOME].isin(FAILURES).sum()),
        against={name: paired_difference(best_losses, losses) for name, losses in baselines.items()},
        day_losses=best_losses,
        config=str(best[schema.CONFIG_FINGERPRINT]),
        random_losses=random_losses.to_numpy(np.float64),
        replicates={str(config): tuple(part["val_loss"]) for config, part in replicates.groupby(schema.CONFIG_FINGERPRINT)},
    )


def _distinct(runs: pd.DataFrame, outcomes: Sequence[str]) -> pd.DataFrame:
    """Return the runs with one of the outcomes; a fingerprint trained by two sweeps counts once."""
    return runs[runs[schema.OUTCOME].isin(outcomes)].drop_duplicates([schema.TRIAL_FINGERPRINT])


def day_losses(store: Store, run_id: str) -> NDArray[np.float64]:
    """Return the mean validation loss of each day of a run, in the order of days."""
    predictions = query.predictions(store, run_id)
    return daily_means(predictions["loss"].to_numpy(np.float64), predictions["date"].to_numpy())
