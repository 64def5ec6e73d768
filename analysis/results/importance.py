"""Permutation importance of each searched setting for the loss at one budget. Numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from research.evaluation.forecast_tests import holm

FEWEST_TRIALS = 20
MOST_TRIALS = 500
"""Limit on the trials in a forest; above it they are sampled, since more cost time and change nothing."""
FOLDS = 5
REPEATS = 5
TREES = 100
LEVEL = 0.05
SEED = 0

SETTINGS: dict[str, tuple[str, ...]] = {
    "depth and width": ("depth", "width"),
    **{name: (name,) for name in ("depth", "width", "heads", "feed-forward ratio", "learning rate", "dropout")},
    **{name: (name,) for name in ("weight decay", "warm-up", "batch size")},
}
"""Columns permuted together. At a fixed size depth determines width, so only both together show the effect of shape."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One setting's permutation importance."""

    setting: str
    share: float
    """Total Sobol index: half the squared error that permuting the setting adds, over the variance of the losses."""
    error: float
    """Standard error of the share over trials."""
    p_value: float
    """One-sided p-value that the setting contributes nothing, adjusted by Holm over the settings of the budget."""

    @property
    def is_noise(self) -> bool:
        """Whether the share is within what chance alone gives."""
        return self.p_value >= LEVEL


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Importance of all settings for the trials of one budget, by a random forest."""

    trials: int
    r2: float
    """Explained share of the variance of held-out trials; negative if predictions are worse than the mean."""
    p_value: float
    """One-sided p-value that the forest predicts no better than the mean."""
    contributions: Sequence[Contribution]
    """Contributions by share, largest first; empty if the forest explains nothing."""

    @property
    def explains(self) -> bool:
        """Whether the forest explains enough variance to rank the settings."""
        return self.r2 > 0 and self.p_value < LEVEL


def importance(trials: pd.DataFrame, ceiling: float) -> Importance | None:
    """Return the permutation importance (Breiman 2001) on held-out trials of a random forest; None below twenty trials.

    Half of it over the variance is the total Sobol index if settings are independent (Jansen 1999; Gregorutti et al.
    2017): the share of the variance that involves the setting, interactions included. Shares need not add up to one.

    All complete trials enter, whichever sampler proposed them. `trials` has the columns of `Frontier.trials`. Losses above
    `ceiling` (the base-rate loss) are clipped to it.
    """
    sample = trials.sample(min(len(trials), MOST_TRIALS), random_state=SEED)
    loss = sample["val_loss"].clip(upper=ceiling).to_numpy(np.float64)
    if len(sample) < FEWEST_TRIALS or np.ptp(loss) == 0:
        return None
    settings = settings_of(sample)
    index = {column: position for position, column in enumerate(settings.columns)}
    varied = {
        name: [index[column] for column in columns]
        for name, columns in SETTINGS.items()
        if all(settings[column].nunique() > 1 for column in columns)
    }
    gain, added = _held_out(settings.to_numpy(np.float64), loss, varied)
    scale = 2 * float(loss.var())
    unranked = Importance(trials=len(loss), r2=float(2 * gain.mean() / scale), p_value=_p_value(gain), contributions=())
    if not unranked.explains:
        return unranked
    adjusted = holm([_p_value(errors) for errors in added.values()])
    contributions = [
        Contribution(setting=name, share=float(errors.mean() / scale), error=float(stats.sem(errors) / scale), p_value=p_value)
        for (name, errors), p_value in zip(added.items(), adjusted, strict=True)
    ]
    return replace(unranked, contributions=sorted(contributions, key=lambda contribution: -contribution.share))


def settings_of(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the searched settings of trials, each on the scale of its search."""
    return pd.DataFrame(
        {
            "depth": np.log2(trials["n_layers"]),
            "width": np.log2(trials["d_model"]),
            "heads": np.log2(trials["n_heads"]),
            "feed-forward ratio": trials["d_ff"] / trials["d_model"],
            "learning rate": np.log10(trials["learning_rate"]),
            "dropout": trials["dropout"],
            "weight decay": np.log10(trials["weight_decay"]),
            "warm-up": trials["warmup_steps"],
            "batch size": np.log2(trials["batch_size"]),
        }
    )


def _held_out(
    settings: NDArray[np.float64], loss: NDArray[np.float64], groups: dict[str, list[int]]
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Return the gains of cross-validated forests, one value per trial, each trial held out once.

    First the squared error of the mean minus that of the forest, (trials,); then, for each group of columns, the squared
    error that permuting the group adds, (trials,).
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    gain, added = np.empty(len(loss)), {name: np.empty(len(loss)) for name in groups}
    rng = np.random.default_rng(SEED)
    for train, test in KFold(FOLDS, shuffle=True, random_state=SEED).split(settings):
        forest = RandomForestRegressor(TREES, min_samples_leaf=2, max_features=0.5, random_state=SEED)
        forest.fit(settings[train], loss[train])
        error = (loss[test] - forest.predict(settings[test])) ** 2
        gain[test] = (loss[test] - loss[train].mean()) ** 2 - error
        for name, columns in groups.items():
            permuted = np.tile(settings[test], (REPEATS, 1))
            orders = np.concatenate([rng.permutation(test) for _ in range(REPEATS)])
            permuted[:, columns] = settings[orders][:, columns]
            permuted_error = (np.tile(loss[test], REPEATS) - forest.predict(permuted)) ** 2
            added[name][test] = permuted_error.reshape(REPEATS, -1).mean(axis=0) - error
    return gain, added


def _p_value(gains: NDArray[np.float64]) -> float:
    """Return the one-sided p-value that the mean over trials is not above zero."""
    error = stats.sem(gains)
    return float(stats.t.sf(gains.mean() / error, len(gains) - 1)) if error > 0 else 1.0
