from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from research.errors import InputError
from research.features.indicators import ewma_volatility
from research.models.baselines import BASELINES
from research.task.task import BaselineRows
from research.task.windows import WindowedData


def rows_of(prepared: WindowedData, volatility: np.ndarray) -> BaselineRows:
    values = prepared.standardised.astype(np.float64)
    train, validation = prepared.split.train, prepared.split.validation
    return BaselineRows(
        features_train=values[train],
        features_validation=values[validation],
        volatility_train=volatility[train],
        volatility_validation=volatility[validation],
        labels_train=prepared.labels_of("train"),
    )


@pytest.fixture(scope="module")
def rows(sp500: pd.DataFrame, prepared: WindowedData) -> BaselineRows:
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
    assert [baseline.name for baseline in BASELINES.values()] == [*BASELINES]
    assert [*BASELINES][:4] == ["prior", "volatility", "logistic", "lightgbm"]
