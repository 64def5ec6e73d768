"""What each setting contributes to the loss at one budget, and whether the trials say anything about it. Numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from research.evaluation.forecast_tests import holm

FEWEST_TRIALS = 20
MOST_TRIALS = 500
"""More are thinned out at random: they would take time and change nothing."""
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
"""What is permuted at once. At a fixed size depth and width stand in for each other: only both together show the shape."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One setting's permutation importance."""

    setting: str
    share: float
    """Half the squared error that permuting the setting adds, over the variance of the losses: its total Sobol index."""
    error: float
    """Standard error over trials."""

    p_value: float
    """One-sided, of the hypothesis that it contributes nothing, adjusted by Holm over the settings of the budget."""

    @property
    def is_noise(self) -> bool:
        """Whether chance alone may have given it its share."""
        return self.p_value >= LEVEL


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What a random forest learned about one budget's trials."""

    trials: int
    r2: float
    """Explained share of the variance of trials that the forest was not fitted to; negative: worse than their mean."""
    p_value: float
    """One-sided, of the hypothesis that it predicts no better than the mean."""
    contributions: Sequence[Contribution]
    """Largest first; empty where the forest explains nothing."""

    @property
    def explains(self) -> bool:
        """Whether there is anything to rank."""
        return self.r2 > 0 and self.p_value < LEVEL


def importance(trials: pd.DataFrame, ceiling: float) -> Importance | None:
    """Permutation importance (Breiman 2001) on held-out trials of a random forest; None below twenty trials.

    Halved and over the variance it is the total Sobol index where settings are independent (Jansen 1999; Gregorutti et al.
    2017): the share of the variance that the setting is part of, interactions included. Shares need not add up to one.

    All complete trials enter, whoever proposed them. `trials` has the columns of `Frontier.trials`; losses above
    `ceiling` (the base-rate loss) count as it.
    """
    chosen = trials.sample(min(len(trials), MOST_TRIALS), random_state=SEED)
    loss = chosen["val_loss"].clip(upper=ceiling).to_numpy(np.float64)
    if len(chosen) < FEWEST_TRIALS or np.ptp(loss) == 0:
        return None
    settings = settings_of(chosen)
    place = {column: index for index, column in enumerate(settings.columns)}
    varied = {
        name: [place[column] for column in columns]
        for name, columns in SETTINGS.items()
        if all(settings[column].nunique() > 1 for column in columns)
    }
    gain, added = _held_out(settings.to_numpy(np.float64), loss, varied)
    scale = 2 * float(loss.var())
    found = Importance(trials=len(loss), r2=float(2 * gain.mean() / scale), p_value=_p_value(gain), contributions=())
    if not found.explains:
        return found
    adjusted = holm([_p_value(each) for each in added.values()])
    contributions = [
        Contribution(setting=name, share=float(each.mean() / scale), error=float(stats.sem(each) / scale), p_value=p_value)
        for (name, each), p_value in zip(added.items(), adjusted, strict=True)
    ]
    ranked = sorted(contributions, key=lambda one: -one.share)
    return Importance(trials=found.trials, r2=found.r2, p_value=found.p_value, contributions=ranked)


def settings_of(trials: pd.DataFrame) -> pd.DataFrame:
    """What was varied, on the scale on which it was searched."""
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
    """Per trial, held out once: squared error of the mean less the forest's, and what permuting each group adds to it."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    gain, added = np.empty(len(loss)), {name: np.empty(len(loss)) for name in groups}
    rng = np.random.default_rng(SEED)
    for fit, held in KFold(FOLDS, shuffle=True, random_state=SEED).split(settings):
        forest = RandomForestRegressor(TREES, min_samples_leaf=2, max_features=0.5, random_state=SEED)
        forest.fit(settings[fit], loss[fit])
        error = (loss[held] - forest.predict(settings[held])) ** 2
        gain[held] = (loss[held] - loss[fit].mean()) ** 2 - error
        for name, columns in groups.items():
            permuted = np.tile(settings[held], (REPEATS, 1))
            orders = np.concatenate([rng.permutation(held) for _ in range(REPEATS)])
            permuted[:, columns] = settings[orders][:, columns]
            worse = (np.tile(loss[held], REPEATS) - forest.predict(permuted)) ** 2
            added[name][held] = worse.reshape(REPEATS, -1).mean(axis=0) - error
    return gain, added


def _p_value(gains: NDArray[np.float64]) -> float:
    """One-sided, that the mean over trials is not above zero."""
    error = stats.sem(gains)
    return float(stats.t.sf(gains.mean() / error, len(gains) - 1)) if error > 0 else 1.0
