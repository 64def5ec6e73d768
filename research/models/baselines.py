"""Reference models that a transformer must beat, fitted on the same rows.

Each returns probabilities for the validation rows. Regularisation is fixed, not searched: with the split by
year 2005-2018 these settings give the losses that `docs/LOG.md` records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from research.errors import InputError
from research.task.task import BaselineRows

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A named reference model."""

    name: str
    title: str
    """Name in tables and figures."""
    version: int
    settings: dict[str, float | int | str]
    """Arguments of `predict`, logged as parameters."""
    predict: Callable[..., Array]
    """Function of (rows, **settings) that returns the probabilities of the validation rows."""

    def __call__(self, rows: BaselineRows) -> Array:
        """Fit on the training rows, predict the validation rows; `InputError` if the training labels are all equal."""
        if len(np.unique(rows.labels_train)) < 2:
            raise InputError("the training labels are all equal; give another THRESHOLD or HORIZON.")
        return self.predict(rows, **self.settings)


def training_prior(rows: BaselineRows) -> Array:
    """Return the training base rate for every row."""
    return np.full(len(rows.features_validation), rows.labels_train.mean())


def volatility_regression(rows: BaselineRows, C: float) -> Array:
    """Fit a logistic regression on one number, the log volatility."""
    return _logistic(rows.volatility_train[:, None], rows.labels_train, rows.volatility_validation[:, None], C)


def logistic_regression(rows: BaselineRows, C: float) -> Array:
    """Fit a logistic regression on the last day's features."""
    return _logistic(rows.features_train, rows.labels_train, rows.features_validation, C)


def lightgbm(rows: BaselineRows, **settings: float | int) -> Array:
    """Fit gradient-boosted trees on the last day's features (Ke et al. 2017)."""
    from lightgbm import LGBMClassifier

    # One thread and a fixed seed: the same rows give the same probabilities on every machine of a kind.
    model = LGBMClassifier(**settings, subsample_freq=1, n_jobs=1, random_state=0, deterministic=True, verbose=-1)  # type: ignore[arg-type]
    model.fit(rows.features_train, rows.labels_train)
    return np.asarray(model.booster_.predict(rows.features_validation), dtype=np.float64)


def _logistic(train: Array, labels: NDArray[np.int8], validation: Array, C: float) -> Array:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # One thread: the last digits then do not depend on how many cores there are, and small fits are faster.
    with threadpool_limits(1):
        fitted = LogisticRegression(C=C, max_iter=5000).fit(train, labels)
        return np.asarray(fitted.predict_proba(validation)[:, 1], dtype=np.float64)


_BASELINES = (
    Baseline(name="prior", title="training prior", version=1, settings={}, predict=training_prior),
    Baseline(name="volatility", title="volatility regression", version=1, settings={"C": 1.0}, predict=volatility_regression),
    Baseline(name="logistic", title="logistic regression", version=1, settings={"C": 0.1}, predict=logistic_regression),
    Baseline(
        name="lightgbm",
        title="LightGBM",
        version=1,
        predict=lightgbm,
        settings={
            "n_estimators": 100,
            "learning_rate": 0.03,
            "num_leaves": 7,
            "min_child_samples": 40,
            "subsample": 0.8,
            "colsample_bytree": 0.5,
        },
    ),
)
BASELINES = {baseline.name: baseline for baseline in _BASELINES}
