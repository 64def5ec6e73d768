from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import erfcx, ndtr
from scipy.stats import chi2, norm

from research.data.garch import SP500
from research.data.synthetic import Market, market_bars
from research.errors import InputError
from research.spec import QUESTIONS, TargetSpec
from research.task.bayes_loss import SOLVED, bayes_loss, label_probabilities
from research.task.targets import label

Rows = NDArray[np.int64]
ASKED = [(kind, touch) for kind in SOLVED for touch in QUESTIONS[kind].touches]


def label_probability(bars: pd.DataFrame, spec: TargetSpec, rows: Rows | None = None) -> NDArray[np.float64]:
    """[days]: NaN where no label is known, and outside `rows` where they are given."""
    wanted = np.arange(len(bars) - spec.horizon + 1) if rows is None else rows
    probabilities = np.full(len(bars), np.nan)
    probabilities[wanted] = label_probabilities(bars, spec, wanted).mean(axis=0)
    return probabilities


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return market_bars(Market(bars=200_000, signal=0.3, lag=20, seed=5))


@pytest.mark.parametrize(("horizon", "every"), [(1, 1), (3, 24)])
@pytest.mark.parametrize(("kind", "touch"), ASKED)
def test_labels_come_as_often_as_the_probability_says(bars: pd.DataFrame, kind: str, touch: str, horizon: int, every: int):
    spec = TargetSpec(horizon=horizon, kind=kind, touch=touch)
    rows = np.arange(0, len(bars) - horizon, every)
    p, labels = label_probability(bars, spec, rows)[rows], label(bars, spec).labels[rows]
    bins = np.argsort(np.argsort(p)) * 20 // len(p)
    surprise = np.bincount(bins, labels - p) / np.sqrt(np.bincount(bins, p * (1 - p)))
    assert chi2.sf(np.square(surprise).sum(), 20) > 0.002
    assert abs(labels.mean() - p.mean()) < 3.5 * math.sqrt((p * (1 - p)).sum()) / len(p)


def test_the_touch_probability_is_the_reflection_principle_also_far_out():
    sigma, planted, threshold = (grid.ravel() for grid in np.meshgrid([0.003, 0.01, 0.08], [-6.0, -1.0, 0.0, 2.0, 8.0], [0.01]))
    state = pd.DataFrame({"sigma_next": sigma, "drift_next": sigma * planted})
    away = np.log1p(threshold) / sigma
    # The overflowing product in another stable form.
    expected = ndtr(planted - away) + erfcx((planted + away) / math.sqrt(2)) * norm.pdf(planted - away) * math.sqrt(math.pi / 2)
    assert label_probability(state, TargetSpec(horizon=1)) == pytest.approx(expected, rel=1e-9)
    mirrored = state.assign(drift_next=-state["drift_next"])
    fall = TargetSpec(horizon=1, kind="downside", threshold=1 - 1 / 1.01)
    assert label_probability(mirrored, fall) == pytest.approx(expected, rel=1e-9)


def test_over_two_days_the_simulation_agrees_with_the_integral():
    bars = market_bars(Market(bars=300, signal=0.3, seed=2))
    sigma, drift = bars["sigma_next"].to_numpy(), bars["drift_next"].to_numpy()

    def given(z: float, row: int) -> float:
        tomorrow = math.sqrt(SP500.omega + float(SP500.multipliers(np.array(z))) * sigma[row] ** 2)
        return float(norm.pdf(z) * ndtr((drift[row] + sigma[row] * z + drift[row + 1]) / tomorrow))

    found = label_probability(bars, TargetSpec(horizon=2, kind="direction"))
    exact = [quad(given, -8, 8, args=(row,), points=[0])[0] for row in range(0, 290, 10)]
    assert found[0:290:10] == pytest.approx(exact, abs=0.008)
    assert found[0:290:10].mean() == pytest.approx(np.mean(exact), abs=4e-4)


@pytest.mark.parametrize("kind", ["threshold", "downside"])
def test_prices_far_beyond_the_threshold_keep_probabilities_finite(kind: str):
    market, spec = market_bars(Market(bars=400, signal=5.0)), TargetSpec(horizon=20, kind=kind, threshold=0.001)
    p = label_probability(market, spec)[:-19]
    assert p.min() >= 0
    assert 0.9 < p.max() <= 1


def test_probabilities_do_not_depend_on_which_rows_are_asked_for(bars: pd.DataFrame):
    spec, market = TargetSpec(horizon=3), bars.iloc[:2000]
    whole, some = label_probability(market, spec), label_probability(market, spec, np.array([5, 700, 1500]))
    assert np.isnan(whole).nonzero()[0].tolist() == [1998, 1999]
    assert np.isfinite(some).nonzero()[0].tolist() == [5, 700, 1500]
    assert some[[5, 700, 1500]] == pytest.approx(whole[[5, 700, 1500]], rel=1e-12)


def test_a_longer_horizon_or_a_watched_extreme_makes_a_touch_likelier(bars: pd.DataFrame):
    rows = np.arange(1000)
    one, three = (label_probability(bars, TargetSpec(horizon=horizon), rows)[rows] for horizon in (1, 3))
    close = label_probability(bars, TargetSpec(horizon=3, touch="close"), rows)[rows]
    assert (three > one).all()
    assert (three > close).all()


def test_a_stronger_signal_lowers_the_floor():
    rows = np.arange(5000)
    losses = [
        bayes_loss(market_bars(Market(bars=5001, signal=signal)), TargetSpec(horizon=1, kind="direction"), rows)
        for signal in (0.0, 0.3, 1.0)
    ]
    assert losses[0].expected == pytest.approx(math.log(2), abs=1e-9)
    assert losses[0].expected > losses[1].expected + 0.02 > losses[2].expected + 0.1
    assert losses[0].realised > losses[1].realised > losses[2].realised


@pytest.mark.parametrize("horizon", [1, 3])
def test_no_forecast_is_better_than_the_true_probabilities(bars: pd.DataFrame, horizon: int):
    spec, rows = TargetSpec(horizon=horizon), np.arange(3000)
    floor, p = bayes_loss(bars, spec, rows), label_probability(bars, spec, rows)[rows]
    labels = label(bars, spec).labels[rows]
    for wrong in (np.full_like(p, labels.mean()), p**0.8, p**1.25, np.roll(p, 1)):
        assert -np.where(labels, np.log(wrong), np.log1p(-wrong)).mean() > floor.realised
    assert floor.realised == pytest.approx(-np.where(labels, np.log(p), np.log1p(-p)).mean())
    assert abs(floor.realised - floor.expected) < 3 * floor.realised_error


def test_the_error_of_the_simulation_is_small_and_none_in_closed_form(bars: pd.DataFrame):
    rows = np.arange(1000)
    assert bayes_loss(bars, TargetSpec(horizon=1), rows).expected_error == 0
    assert 0 < bayes_loss(bars, TargetSpec(horizon=3), rows).expected_error < 5e-4


@pytest.mark.parametrize("spec", [TargetSpec(horizon=1), TargetSpec(horizon=5, kind="end")], ids=lambda spec: spec.name)
def test_the_realised_loss_scatters_around_the_expected_as_its_error_says(spec: TargetSpec):
    surprises = []
    for seed in range(30):
        floor = bayes_loss(market_bars(Market(bars=210, signal=0.3, seed=seed)), spec, np.arange(200))
        surprises.append((floor.realised - floor.expected) / floor.realised_error)
    assert np.square(surprises).mean() == pytest.approx(1, abs=0.7)
    assert abs(np.mean(surprises)) < 0.5


def test_a_regression_finds_the_signal_at_its_lag_and_nowhere_in_the_newer_days(bars: pd.DataFrame):
    from sklearn.linear_model import LogisticRegression

    spec = TargetSpec(horizon=1, kind="direction")
    move, sigma = np.log(bars["close"]).diff().to_numpy(), bars["sigma_next"].to_numpy()
    rows = np.arange(100, len(bars) - 1)
    labels, (train, test) = label(bars, spec).labels[rows], (slice(0, 150_000), slice(150_000, None))

    def loss(ages: range) -> float:
        # Age 0 is the return of t itself. Over tomorrow's volatility, as the probability has it.
        features = np.stack([move[rows - age] / sigma[rows] for age in ages], axis=1)
        fitted = LogisticRegression().fit(features[train], labels[train])
        p = fitted.predict_proba(features[test])[:, 1]
        return float(-np.where(labels[test], np.log(p), np.log1p(-p)).mean())

    floor = bayes_loss(bars, spec, rows[test])
    assert loss(range(19)) == pytest.approx(math.log(2), abs=5e-4)
    # A return is its innovation and the drift it came with, which blurs it; older returns tell them apart.
    assert loss(range(19, 20)) < math.log(2) - 0.02
    assert floor.realised < loss(range(19, 100, 20)) < floor.realised + 5e-4


@pytest.mark.parametrize("horizon", [1, 3])
def test_shuffled_labels_leave_only_the_base_rate(bars: pd.DataFrame, horizon: int):
    spec, rows = TargetSpec(horizon=horizon, shuffled=1), np.arange(50_000, 70_000)
    rate = label(bars, replace(spec, shuffled=None)).labels[:-horizon].mean()
    assert label_probability(bars, spec, rows)[rows] == pytest.approx(rate)
    floor = bayes_loss(bars, spec, rows)
    assert floor.expected == pytest.approx(-rate * math.log(rate) - (1 - rate) * math.log(1 - rate))
    assert abs(floor.realised - floor.expected) < 3 * floor.realised_error


def test_a_horizon_longer_than_the_lag_is_refused():
    market = market_bars(Market(bars=3000, signal=0.3, lag=2))
    assert np.isfinite(label_probability(market, TargetSpec(horizon=2), np.arange(5))[:5]).all()
    with pytest.raises(InputError, match="HORIZON=3: the planted drift has a lag of 2 days; give a horizon up to 2"):
        label_probability(market, TargetSpec(horizon=3))


def test_bars_of_unknown_law_are_refused(sp500: pd.DataFrame):
    with pytest.raises(InputError, match=r"TASK=threshold: the bars have no column sigma_next; .*DATA=synthetic only"):
        label_probability(sp500, TargetSpec(horizon=1))
