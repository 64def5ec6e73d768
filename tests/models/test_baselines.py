from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from research.data.sources import bundled
from research.features.feature_sets import A25S, build
from research.features.indicators import ewma_volatility
from research.models.baselines import BASELINES, BaselineRows
from research.spec import InputError, TargetSpec
from research.training.metrics import auc_with_error, logits_of, row_losses
from research.windows.dataset import Prepared, prepare
from research.windows.splits import walk_forward
from research.windows.targets import threshold_target

PUBLISHED = {
    1: (0.193, {"prior": 0.5007, "volatility": 0.4276, "logistic": 0.4044, "lightgbm": 0.4047}),
    3: (0.426, {"prior": 0.6908, "volatility": 0.6310, "logistic": 0.6033, "lightgbm": 0.6095}),
    5: (0.547, {"prior": 0.6941, "volatility": 0.6525, "logistic": 0.6365, "lightgbm": 0.6405}),
}
PUBLISHED_AUC = {
    1: {"volatility": 0.759, "logistic": 0.797, "lightgbm": 0.795},
    3: {"volatility": 0.689, "logistic": 0.728, "lightgbm": 0.718},
    5: {"volatility": 0.660, "logistic": 0.689, "lightgbm": 0.678},
}
"""Horizon -> base rate and log loss, and AUC, of the walk-forward by year 2005-2018 on the S&P 500."""
LOSS_TOLERANCE, AUC_TOLERANCE = 0.006, 0.01

horizons = pytest.mark.parametrize("horizon", PUBLISHED)


def rows_of(prepared: Prepared, volatility: np.ndarray) -> BaselineRows:
    values = prepared.standardised.astype(np.float64)
    train, validation = prepared.split.train, prepared.split.validation
    return BaselineRows(
        features_train=values[train],
        features_validation=values[validation],
        volatility_train=volatility[train],
        volatility_validation=volatility[validation],
        labels_train=prepared.labels_of("train"),
    )


@cache
def forecasts(horizon: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Probabilities of every baseline, and the labels, for all days of 2005-2018 that have one."""
    bars = bundled().bars["^GSPC"]
    matrix, target = build(A25S, bars), threshold_target(bars, TargetSpec(horizon=horizon))
    volatility = ewma_volatility(bars["close"].to_numpy(np.float64))
    folds = [prepare(matrix, target, split, 60) for split in walk_forward(target, 2005, 2018, matrix.first_row, 60)]
    rows = [rows_of(fold, volatility) for fold in folds]
    with threadpool_limits(1):  # three times faster than two threads on matrices this small
        said = {name: np.concatenate([baseline(one) for one in rows]) for name, baseline in BASELINES.items()}
    return said, np.concatenate([fold.labels_of("validation") for fold in folds])


@horizons
def test_the_walk_forward_has_the_published_days_and_base_rate(horizon: int):
    _, labels = forecasts(horizon)
    assert len(labels) == 3523 - horizon
    assert labels.mean() == pytest.approx(PUBLISHED[horizon][0], abs=0.0005)


@horizons
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_reproduces_its_published_loss(horizon: int, name: str):
    said, labels = forecasts(horizon)
    assert row_losses(logits_of(said[name]), labels).mean() == pytest.approx(PUBLISHED[horizon][1][name], abs=LOSS_TOLERANCE)


@horizons
@pytest.mark.parametrize("name", ["volatility", "logistic", "lightgbm"])
def test_a_baseline_reproduces_its_published_ranking(horizon: int, name: str):
    said, labels = forecasts(horizon)
    assert auc_with_error(logits_of(said[name]), labels)[0] == pytest.approx(PUBLISHED_AUC[horizon][name], abs=AUC_TOLERANCE)


@horizons
def test_features_say_more_than_volatility_and_volatility_more_than_the_prior(horizon: int):
    said, labels = forecasts(horizon)
    losses = {name: row_losses(logits_of(said[name]), labels).mean() for name in BASELINES}
    assert losses["logistic"] < losses["volatility"] < losses["prior"]
    assert losses["lightgbm"] < losses["volatility"]


@pytest.fixture(scope="module")
def rows(sp500: pd.DataFrame, prepared: Prepared) -> BaselineRows:
    return rows_of(prepared, ewma_volatility(sp500["close"].to_numpy(np.float64)))


@pytest.mark.parametrize("name", BASELINES)
def test_a_forecast_is_one_probability_per_validation_day(rows: BaselineRows, name: str):
    said = BASELINES[name](rows)
    assert said.shape == (877,)
    assert said.dtype == np.float64
    assert ((said > 0) & (said < 1)).all()


@pytest.mark.parametrize("name", BASELINES)
def test_the_same_rows_give_the_same_forecast(rows: BaselineRows, name: str):
    np.testing.assert_array_equal(BASELINES[name](rows), BASELINES[name](rows))


def test_the_prior_is_the_base_rate_of_the_training_days(rows: BaselineRows):
    assert set(BASELINES["prior"](rows)) == {rows.labels_train.mean()}


def test_the_volatility_regression_sees_nothing_but_volatility(rows: BaselineRows):
    said, order = BASELINES["volatility"](rows), np.argsort(rows.volatility_validation)
    assert (np.diff(said[order]) >= 0).all()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("label", [0, 1])
def test_training_days_of_one_class_are_refused(rows: BaselineRows, name: str, label: int):
    one_class = BaselineRows(**{**vars(rows), "labels_train": np.full_like(rows.labels_train, label)})
    with pytest.raises(InputError, match=r"the training labels are all equal; give another THRESHOLD or HORIZON"):
        BASELINES[name](one_class)


def test_every_baseline_is_found_by_its_own_name():
    assert {name: baseline.name for name, baseline in BASELINES.items()} == {name: name for name in PUBLISHED[1][1]}
