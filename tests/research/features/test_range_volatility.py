from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from research.features.feature import Bars
from research.features.range_volatility import garman_klass, parkinson, rogers_satchell, yang_zhang

SIGMA = 0.01
DAYS, STEPS = 1200, 1500


def brownian_days(*, drift: float = 0.0, overnight: float = 0.0) -> Bars:
    """Days whose log price is a Brownian motion of known volatility, seen at many instants."""
    rng = np.random.default_rng(11)
    steps = rng.normal(drift / STEPS, SIGMA / np.sqrt(STEPS), (DAYS, STEPS))
    path = np.concatenate([np.zeros((DAYS, 1)), np.cumsum(steps, axis=1)], axis=1)
    gaps = rng.normal(0, overnight, DAYS) if overnight else np.zeros(DAYS)
    opens = np.cumsum(gaps) + np.concatenate([[0.0], np.cumsum(path[:, -1])[:-1]])
    open_, high, low, close = (np.exp(opens + part) for part in (path[:, 0], path.max(1), path.min(1), path[:, -1]))
    days = pd.bdate_range("2001-01-01", periods=DAYS)
    return Bars(days=days, open=open_, high=high, low=low, close=close, volume=np.ones(DAYS))


ESTIMATORS = {
    "parkinson": parkinson,
    "garman_klass": garman_klass,
    "rogers_satchell": rogers_satchell,
    "yang_zhang": yang_zhang,
}
LENGTH = DAYS - 1


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimate_finds_the_volatility_of_a_brownian_day(name: str):
    # Instants a 1500th of a day apart miss a little of the range: the estimates lie 2 to 4% low.
    assert ESTIMATORS[name](brownian_days(), LENGTH)[-1] == pytest.approx(0.97 * SIGMA, rel=0.03)


@pytest.mark.parametrize(("name", "biased"), [("parkinson", True), ("rogers_satchell", False), ("yang_zhang", False)])
def test_drift_biases_only_the_estimates_that_assume_none(name: str, biased: bool):
    estimate = ESTIMATORS[name](brownian_days(drift=0.015), LENGTH)[-1] / SIGMA
    assert (estimate > 1.1) == biased
    assert estimate < 2


@pytest.mark.parametrize(("name", "expected"), [("parkinson", 1.0), ("yang_zhang", np.sqrt(2.0))])
def test_only_yang_zhang_sees_what_happens_overnight(name: str, expected: float):
    estimate = ESTIMATORS[name](brownian_days(overnight=SIGMA), LENGTH)[-1]
    assert estimate == pytest.approx(expected * SIGMA, rel=0.06)


def test_the_range_tells_more_than_the_close():
    """Parkinson: the variance of his estimate is about a fifth of that from closes."""
    bars = brownian_days()
    closes = np.diff(np.log(bars.close)) ** 2
    ranges = parkinson(bars, 1)[1:] ** 2
    assert closes.var() / ranges.var() == pytest.approx(4.9, rel=0.2)
