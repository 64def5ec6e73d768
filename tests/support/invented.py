"""Frontiers that no sweep made, for tests that know what is in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.results.frontier import BudgetResult, Frontier
from research.evaluation.significance import paired_difference

DAYS = 877
_RNG = np.random.default_rng(0)
_COMMON = _RNG.gamma(0.5, 0.8, DAYS)
_COMMON -= _COMMON.mean()


def entry(n_params: int, loss: float, *, noise: float = 0.02, **changes: Any) -> BudgetResult:
    """A budget's best trial; `noise` is the daily spread that it does not share with other models."""
    losses = _COMMON + loss + _RNG.normal(0, noise, DAYS)
    losses += loss - losses.mean()
    made: dict[str, Any] = {
        "budget": f"{n_params // 1000}K",
        "run_id": f"run of {n_params}",
        "architecture": "d8 L2 h2 ff4",
        "n_params": n_params,
        "val_loss": loss,
        "skill": 1 - loss / 0.45,
        "auc": 0.7,
        "auc_se": 0.02,
        "alarm": "none",
        "complete": 12,
        "failed": 0,
        "against": {"prior": paired_difference(losses, _COMMON + 0.45)},
        "day_losses": losses,
    }
    return BudgetResult(**{**made, **changes})


def frontier(*entries: BudgetResult, trials: pd.DataFrame | None = None, horizon: int = 1) -> Frontier:
    """One question with two baselines; its trials are the entries unless others are given."""
    best = {"n_params": [e.n_params for e in entries], "val_loss": [e.val_loss for e in entries]}
    return Frontier(
        experiment="sp500-threshold-1pct",
        study=f"f{horizon}bb342b9fef2e0f",
        horizon=horizon,
        features="a25s",
        context_length=60,
        n_days=DAYS,
        n_train_windows=3012,
        n_effective_windows=900.0,
        instruments="^GSPC",
        setting=(f"labels {horizon}", "features", "^GSPC", "60", "2011-12-31", "2015-06-30", "2018-12-31", "0", "recent"),
        base_rate_loss=0.45,
        entries=list(entries),
        baselines={"prior": 0.45, "logistic": 0.40},
        trials=pd.DataFrame({**best, "budget": [e.budget for e in entries], "name": "n"}) if trials is None else trials,
        baseline_losses={"prior": _COMMON + 0.45, "logistic": _COMMON + 0.40},
    )


def searched(
    seed: int, count: int, *, budget: str = "2K", effect: float = 0.0, noise: float = 0.01, best: float = 0.25
) -> pd.DataFrame:
    """Random trials of one size; their loss rises by `effect` times the squared log2 of (depth / width) / best."""
    rng = np.random.default_rng(seed)
    depth = rng.choice([1, 2, 3, 4, 6, 8, 12, 16, 24], count)
    width = 4 + 4 * np.round(16 / np.sqrt(depth)).astype(int)
    distance = np.log2(depth / width / best)
    return pd.DataFrame(
        {
            "budget": budget,
            "name": [f"{number:04d} d4 L2 h1 ff2" for number in range(count)],
            "run_id": [f"{budget} {number}" for number in range(count)],
            "n_params": 2000,
            "val_loss": 0.4 + effect * distance**2 + rng.normal(0, noise, count),
            "proposed_by": "random",
            "n_layers": depth,
            "d_model": width,
            "n_heads": rng.choice([1, 2, 4], count),
            "d_ff": width * rng.choice([2, 4], count),
            "learning_rate": 10 ** rng.uniform(-4, -2, count),
            "dropout": rng.uniform(0, 0.4, count),
            "weight_decay": 10 ** rng.uniform(-4, -0.5, count),
            "warmup_steps": rng.integers(0, 100, count),
            "batch_size": rng.choice([64, 128, 256], count),
        }
    )
