"""The best trial of each budget, its rivals on the same rows, and how sure the comparison is. Numbers only."""

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
"""Trials are comparable when they answer the same question on the same bars, labels, split and training windows."""
SETTING = (
    *(schema.TARGET_DIGEST, schema.FEATURE_DIGEST),
    *("validate_on", "context_length", "train_end", "validation_end", "test_end", "embargo", "windows_from"),
)
"""Where studies agree in these, they differ in nothing but their training windows."""
FAILURES = ("diverged", "infeasible", "crashed")
"""Outcomes that count as failed; an interrupted trial is tried again when its sweep is resumed."""
SHAPE = ("n_layers", "d_model", "n_heads", "d_ff")
SEARCHED = (*SHAPE, "learning_rate", "dropout", "weight_decay", "warmup_steps", "batch_size")
"""What a search varies within a budget."""
RANDOM_ENDINGS = ("complete", "diverged")
"""Outcomes with which a random draw counts as one; a crash or a full memory says nothing about the draw."""
COST = ("flops_per_sample", "epochs_run")
"""What a trial's training took, beside its windows."""
COLUMNS = (schema.PROPOSED_BY, schema.CONFIG_FINGERPRINT, *SEARCHED, *COST, *SETTING, "train_windows", "baseline")
"""Read where they are there: runs of earlier versions lack some."""


@dataclass(frozen=True, kw_only=True)
class BudgetResult:
    """The best trial of one budget."""

    budget: str
    run_id: str
    architecture: str
    n_params: int
    """Counted from the built model."""
    val_loss: float
    skill: float
    """Against the training base rate on the same rows."""
    auc: float
    auc_se: float
    alarm: str
    complete: int
    """Trials that ended with a loss."""
    failed: int
    """Trials that diverged, crashed or did not fit."""
    against: dict[str, Difference]
    """Baseline -> this trial's loss minus the baseline's, per day."""
    day_losses: NDArray[np.float64]
    """Loss of each validation day, in order."""
    config: str = ""
    """Fingerprint of the configuration, seed left out."""
    random_losses: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Losses of the trials that were drawn at random; one that diverged has the base-rate loss, which needs no model."""
    replicates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Configuration -> losses on fresh seeds, for every configuration of the budget that was trained again."""


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """All budgets of one question."""

    experiment: str
    study: str
    """Fingerprint of data, features, question and split."""
    horizon: int
    features: str
    context_length: int
    n_days: int
    """Validation days, the same for every row."""
    n_train_windows: int
    n_effective_windows: float
    """Independent labels that the training labels are worth."""
    instruments: str
    """Symbols that were trained on."""
    setting: tuple[str, ...]
    """Labels, features, dates and validated instruments: all of the study but its training windows."""
    base_rate_loss: float
    entries: list[BudgetResult]
    """By counted size."""
    baselines: dict[str, float]
    """Baseline -> validation loss."""
    trials: pd.DataFrame
    """Every complete trial: budget, name, n_params, val_loss, run_id, proposed_by and what the search varied."""
    train_windows: str = "all"
    """How many training windows were asked for."""
    baseline_losses: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Baseline -> loss of each validation day, in order."""
    baseline_runs: Mapping[str, str] = field(default_factory=dict)
    """Baseline -> run id."""

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from every other one of the store: a study is asked anew with another context."""
        return (self.study, self.context_length)

    @property
    def question(self) -> tuple[str, ...]:
        """All that questions share which differ in the horizon only, the experiment first."""
        # The first part of a setting is the digest of the labels, which differs between horizons.
        return (self.experiment, self.features, self.instruments, self.train_windows, *self.setting[1:])


def frontiers(store: Store, experiment: str | None) -> list[Frontier]:
    """One frontier per question in the store, read from MLflow; `InputError` if no trial has finished.

    One query reads all runs; files of predictions are read of the best trials and the baselines only.
    """
    table = query.runs(store, kinds=("trial", "baseline", "replicate"), experiment=experiment, adopted=False)
    where = f" in experiment {experiment}" if experiment else ""
    if table.empty or schema.OUTCOME not in table or not _has_finished(table):
        raise InputError(f"STORE={store.root.name}: no finished trial{where} yet; start with `make sweep`.")
    if "validate_on" not in table:
        raise InputError(
            f"STORE={store.root.name}: its trials{where} are of an older version, which did not log the instruments that are "
            "validated; run their sweeps again, the same command does it."
        )
    # Runs of that version beside newer ones have no validate_on and no context of their baselines: they are left out.
    table = table[table["validate_on"].notna()]
    table = table.reindex(columns=[*table.columns, *(name for name in COLUMNS if name not in table)])
    found = [_frontier(store, str(name), part) for (name, *_), part in table.groupby(QUESTION, sort=True)]
    return sorted((one for one in found if one is not None), key=lambda one: (one.experiment, one.horizon))


def _has_finished(table: pd.DataFrame) -> bool:
    return bool(((table[schema.OUTCOME] == "complete") & (table[schema.KIND] == "trial")).any())


def _frontier(store: Store, experiment: str, table: pd.DataFrame) -> Frontier | None:
    tried = table[table[schema.KIND] == "trial"]
    trials = _distinct(tried, ["complete"])
    if trials.empty:
        return None
    references = _distinct(table[table[schema.KIND] == "baseline"], ["complete"]).set_index("baseline")
    runs = {str(name): str(run_id) for name, run_id in references["run_id"].items()}
    losses = {name: day_losses(store, run_id) for name, run_id in runs.items()}
    finished = table[table["budget"].isin(trials["budget"])]
    entries = [_entry(store, part, losses) for _, part in finished.groupby("budget", sort=False)]
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
        baselines={str(name): float(loss) for name, loss in references["val_loss"].items()},
        trials=trials[["budget", "name", "n_params", "val_loss", "run_id", schema.PROPOSED_BY, *SEARCHED, *COST]].reset_index(
            drop=True
        ),
        train_windows=str(first["train_windows"]),
        baseline_losses=losses,
        baseline_runs=runs,
    )


def _entry(store: Store, runs: pd.DataFrame, baselines: dict[str, NDArray[np.float64]]) -> BudgetResult:
    """From all runs of one budget."""
    tried = runs[runs[schema.KIND] == "trial"]
    complete = _distinct(tried, ["complete"])
    best: dict[Any, Any] = complete.sort_values("val_loss", kind="stable").iloc[0].to_dict()
    mine = day_losses(store, best["run_id"])
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
        against={name: paired_difference(mine, losses) for name, losses in baselines.items()},
        day_losses=mine,
        config=str(best[schema.CONFIG_FINGERPRINT]),
        random_losses=_random_losses(tried, best["val_base_rate_loss"]),
        replicates=_fresh_losses(runs[runs[schema.KIND] == "replicate"]),
    )


def _distinct(runs: pd.DataFrame, outcomes: Sequence[str]) -> pd.DataFrame:
    """Runs that ended so; the same fingerprint trained by two sweeps is one result, not two."""
    return runs[runs[schema.OUTCOME].isin(outcomes)].drop_duplicates([schema.TRIAL_FINGERPRINT])


def _random_losses(tried: pd.DataFrame, base_rate_loss: float) -> NDArray[np.float64]:
    drawn = _distinct(tried[tried[schema.PROPOSED_BY] == schema.RANDOM], RANDOM_ENDINGS)
    return drawn["val_loss"].where(drawn[schema.OUTCOME] == "complete", base_rate_loss).to_numpy(np.float64)


def _fresh_losses(replicates: pd.DataFrame) -> dict[str, tuple[float, ...]]:
    done = _distinct(replicates, ["complete"])
    return {str(config): tuple(part["val_loss"]) for config, part in done.groupby(schema.CONFIG_FINGERPRINT)}


def day_losses(store: Store, run_id: str) -> NDArray[np.float64]:
    """Validation loss of each day of a run, in order."""
    table = query.predictions(store, run_id)
    return daily_means(table["loss"].to_numpy(np.float64), table["date"].to_numpy())
