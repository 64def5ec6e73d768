from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from analysis.laws import Forecast, forecast, score, verdict
from research.errors import InputError

SIZES = np.array([2e6, 2e7, 2e8, 2e9])


def claims(slope: float, runs: int, *, seeds: int = 5, noise: float = 0.017, of_budgets: float = 0.0) -> dict[str, float]:
    """Share of each claim on a loss that changes by `slope` per tenfold size."""
    rng = np.random.default_rng(0)
    n = np.repeat(SIZES, seeds)
    mean = 0.6 * (1 + slope * np.log10(n / n.min()))
    counts = Counter(
        verdict(
            n, mean * (1 + noise * rng.normal(size=len(n)) + of_budgets * np.repeat(rng.normal(size=len(SIZES)), seeds))
        ).claim
        for _ in range(runs)
    )
    return {claim: counts[claim] / runs for claim in ("scaling", "inverse", "equivalent", "inconclusive")}


def test_noise_is_not_scaling_and_usually_equivalent() -> None:
    shares = claims(0.0, 1500)
    assert shares["scaling"] + shares["inverse"] <= 0.05
    assert shares["equivalent"] >= 0.73


def test_a_fall_of_one_and_a_half_percent_is_found() -> None:
    assert claims(-0.015, 600)["scaling"] >= 0.94
    assert claims(0.015, 600)["inverse"] >= 0.94


@pytest.mark.slow
def test_claims_are_as_rare_and_as_powerful_as_promised() -> None:
    null = claims(0.0, 20_000)
    assert null["scaling"] + null["inverse"] <= 0.05
    assert null["equivalent"] >= 0.75
    assert claims(-0.015, 20_000)["scaling"] >= 0.95


def test_budgets_that_differ_in_more_than_their_seeds_are_not_judged_by_seeds() -> None:
    shares = claims(0.0, 400, seeds=20, noise=0.002, of_budgets=0.02)
    assert shares["scaling"] + shares["inverse"] <= 0.08
    scattered = verdict(np.repeat(SIZES, 3), np.repeat([0.60, 0.57, 0.61, 0.58], 3) + np.tile([0, 0.001, 0.002], 4))
    assert scattered.noise == "budgets"
    assert scattered.freedom == 2
    assert scattered.claim == "inconclusive"


def test_an_error_that_seeds_cannot_show_widens_the_verdict() -> None:
    n, rng = np.repeat(SIZES, 5), np.random.default_rng(2)
    loss = 0.6 * (1 - 0.015 * np.log10(n / n.min())) * (1 + 0.01 * rng.normal(size=20))
    plain = verdict(n, loss)
    searched = verdict(n, loss, budget_error=0.03)
    by_days = verdict(n, loss, slope_error=0.02)
    assert plain.claim == "scaling"
    assert searched.claim == by_days.claim == "inconclusive"
    assert min(searched.detectable, by_days.detectable) > 2 * plain.detectable


def test_one_seed_per_budget_leaves_the_scatter_of_budgets() -> None:
    clear = verdict(SIZES, [4.0, 3.6, 3.2, 2.9])
    assert clear.claim == "scaling"
    assert clear.slope == pytest.approx(-0.10, abs=0.01)
    unclear = verdict(SIZES, [4.0, 3.9, 4.05, 3.8])
    assert unclear.claim == "inconclusive"
    # A slope that the interval could not tell from zero is smaller than what would have been found.
    assert abs(unclear.slope) < unclear.detectable


def test_the_sentence_holds_the_smallest_slope_that_would_have_been_found() -> None:
    inconclusive = verdict(SIZES, [4.0, 3.9, 4.05, 3.8])
    assert inconclusive.sentence().startswith("inconclusive: no evidence of scaling, and none against it. ")
    assert f"a change of {inconclusive.detectable:.2%} would have been found" in inconclusive.sentence()


def test_an_interval_that_excludes_zero_without_a_claim_is_explained() -> None:
    """A reader sees the 95% interval; the claim is made at 97%."""
    n, rng = np.repeat(SIZES, 5), np.random.default_rng(2)
    noise = 0.03 * rng.normal(size=20)
    verdicts = [verdict(n, 0.6 * (1 - slope * np.log10(n / n.min())) * (1 + noise)) for slope in np.linspace(0, 0.06, 241)]
    near = [v for v in verdicts if v.claim == "inconclusive" and v.high < 0]
    assert near
    for result in verdicts:
        assert ("a claim needs the 97% interval" in result.sentence()) == (result in near)
        assert (f"[{result.claim_low:+.2%}, {result.claim_high:+.2%}], to do so." in result.sentence()) == (result in near)


def test_a_claim_that_is_smaller_than_the_margin_is_called_equivalent() -> None:
    n, rng = np.repeat(SIZES, 5), np.random.default_rng(0)
    loss = 0.6 * (1 - 0.004 * np.log10(n / n.min())) * (1 + 0.001 * rng.normal(size=20))
    result = verdict(n, loss)
    assert result.claim_high < 0
    assert result.claim == "equivalent"
    assert verdict(n, loss, margin=0.002).claim == "scaling"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n": [1e6, 1e7], "loss": [1.0, 2.0]}, "at least 3 sizes"),
        ({"n": SIZES, "loss": [1.0, -2.0, 1.0, 1.0]}, "loss=-2"),
        ({"n": SIZES, "loss": [1.0, 1.0]}, "give as many"),
        ({"n": SIZES, "loss": [1.0, 1.1, 1.0, 1.0], "budget_error": -1.0}, "budget_error=-1.0"),
        ({"n": SIZES, "loss": [1.0, 1.1, 1.0, 1.0], "margin": 0.0}, "margin=0.0"),
    ],
)
def test_a_table_that_cannot_be_judged_is_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        verdict(**arguments)  # type: ignore[arg-type]


TRUTHS = {
    "constant": lambda n: 0.6 + 0 * n,
    "power": lambda n: 3 * (n / 2e6) ** -0.076,
    "power and floor": lambda n: 1.8 + 2 * (n / 2e6) ** -0.34,
    "low power and floor": lambda n: 0.55 + 0.1 * (n / 2e6) ** -0.3,
    "slightly rising": lambda n: 0.6 * (1 + 0.015 * np.log10(n / 2e6)),
}


def _coverage(name: str, step: float, noise: float, runs: int, *, with_error: bool) -> float:
    rng = np.random.default_rng(0)
    n = 2e6 * step ** np.arange(4)
    inside = 0
    for _ in range(runs):
        loss = TRUTHS[name](n) * (1 + noise * rng.normal(size=4))
        prediction = forecast(n[:3], loss[:3], n[3], error=noise * loss[:3] if with_error else None)
        inside += score(prediction, float(loss[3])).inside
    return inside / runs


@pytest.mark.parametrize("name", TRUTHS)
def test_forecasts_from_three_budgets_hold_what_comes_next(name: str) -> None:
    assert _coverage(name, 10, 0.01, 60, with_error=False) >= 0.88


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUTHS)
@pytest.mark.parametrize("step", [8.0, 30.0])
@pytest.mark.parametrize("noise", [0.005, 0.02])
@pytest.mark.parametrize("with_error", [False, True])
def test_forecasts_hold_as_often_as_promised(name: str, step: float, noise: float, with_error: bool) -> None:
    assert _coverage(name, step, noise, 200, with_error=with_error) >= 0.90


def test_intervals_are_not_wide_for_nothing() -> None:
    flat = forecast(SIZES[:3], [0.600, 0.602, 0.599], SIZES[3], error=[0.002] * 3)
    assert (flat.high - flat.low) / flat.loss < 0.08
    steep = forecast(SIZES[:3], [3.0, 2.4, 1.92], SIZES[3], error=[0.01] * 3)
    assert steep.low < 1.92 * 0.8 < steep.high < 1.92


def test_noisier_points_and_a_farther_target_widen_the_interval() -> None:
    losses = [3.0, 2.8, 2.65]
    near, noisy, far = (
        forecast(SIZES[:3], losses, at, error=[error] * 3) for at, error in ((2e9, 0.01), (2e9, 0.1), (2e11, 0.01))
    )
    assert np.log(noisy.high / noisy.low) > np.log(near.high / near.low)
    assert np.log(far.high / far.low) > np.log(near.high / near.low)


def test_seeds_of_one_size_are_one_point_with_an_error() -> None:
    prediction = forecast(np.repeat(SIZES[:3], 2), [1.0, 1.02, 0.9, 0.92, 0.8, 0.82], 2e9)
    assert prediction.n == tuple(SIZES[:3])
    assert prediction.losses == pytest.approx((1.01, 0.91, 0.81))
    assert all(error > 0 for error in prediction.errors)


def test_a_forecast_survives_its_text_and_the_text_is_canonical() -> None:
    prediction = forecast(SIZES[:3], [3.0, 2.0, 1.0], 2e9)
    text = prediction.to_json()
    assert Forecast.from_json(text) == prediction
    assert Forecast.from_json(text).to_json() == text
    assert forecast(SIZES[[2, 0, 1]], [1.0, 3.0, 2.0], 2e9).to_json() == text
    assert json.loads(text)["spec"] == "Forecast"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"spec": "Forecast"}', '{"spec":"Other"}'])
def test_another_text_is_no_forecast(text: str) -> None:
    with pytest.raises(InputError, match="not a forecast"):
        Forecast.from_json(text)


def test_a_score_has_a_direction_and_penalises_width_and_misses() -> None:
    prediction = Forecast(
        at=10, loss=2.0, low=1.5, high=2.5, level=0.95, weights={}, noise=0.01, n=(1, 2, 3), losses=(3, 3, 3), errors=(0, 0, 0)
    )
    inside, above = score(prediction, 2.2), score(prediction, 2.6)
    assert inside.inside
    assert inside.signed_error == pytest.approx(0.1)
    assert inside.interval_score == pytest.approx(1.0)
    assert not above.inside
    assert above.interval_score == pytest.approx(1.0 + 40 * 0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n": SIZES[:2], "loss": [1, 2], "at": 2e9}, "at least 3"),
        ({"n": SIZES[:3], "loss": [1, 2, 3], "at": 2e8}, "beyond the largest"),
        ({"n": SIZES[:3], "loss": [1, 2, 3], "at": 2e9, "error": [0.1]}, "error"),
        ({"n": SIZES[:3], "loss": [1, 2, 3], "at": 2e9, "level": 2.0}, "level=2.0"),
    ],
)
def test_what_cannot_be_forecast_is_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        forecast(**arguments)  # type: ignore[arg-type]
