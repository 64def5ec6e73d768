"""A search of the size of ours whose trials cost nothing: only asking, logging and telling are left to measure."""

from __future__ import annotations

import warnings
from typing import Any

import optuna


def sampler() -> optuna.samplers.BaseSampler:
    """The sampler of a sweep."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=0, multivariate=True, group=True, constant_liar=True)


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Eight names, as in a sweep."""
    trial.suggest_categorical("shape", [f"d{width} L{depth}" for width in (4, 8, 16) for depth in (1, 2, 4, 8)])
    trial.suggest_categorical("n_heads", [1, 2, 4])
    trial.suggest_categorical("ff_ratio", [2, 4])
    trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True)
    trial.suggest_float("dropout", 0.0, 0.5)
    trial.suggest_int("warmup_steps", 0, 200)
    trial.suggest_categorical("batch_size", [32, 64, 128])
    return dict(trial.params)


def objective(suggested: dict[str, Any]) -> float:
    """Some number that depends on the suggestion."""
    return float(suggested["dropout"] + abs(suggested["learning_rate"] - 1e-3))
