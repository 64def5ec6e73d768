"""The controls tell a pipeline that finds what is there from one that does not, and from one that finds what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.checks import control
from pipelines.checks.control import ControlOptions, arms_of
from pipelines.checks.control_experiments import ControlExperiment
from pipelines.data.load_task import load_task
from pipelines.options import SweepOptions
from pipelines.trial.task_record import evidence_metrics
from research.data.synthetic import market_bars, market_from_settings, parse_settings
from research.errors import InputError
from research.evaluation.metrics import logits_of, row_losses
from research.evaluation.significance import Difference
from research.models.baselines import BASELINES
from research.task.bayes_loss import BayesLoss
from research.task.build import assemble
from research.tracking import query, schema
from research.tracking.store import open_store
from tests.support.verbs import commands_to_type

TINY = {"bars": 3000, "budget": "2K", "trials": 1, "epochs": 1, "device": "cpu", "workers": 1, "threads": 1}


def arm(*, planted: bool, best: float, half_width: float = 0.01, volatility: float = 0.56) -> ControlExperiment:
    """An arm whose training prior has .6 and whose Bayes loss is .5."""

    def gap(other: float) -> Difference:
        return Difference(mean=best - other, low=best - other - half_width, high=best - other + half_width)

    return ControlExperiment(
        title="planted signal" if planted else "shuffled labels",
        planted=planted,
        sweep_run="r",
        settings={},
        days=900,
        losses={"prior": 0.6, "volatility": volatility, "logistic": 0.55, "lightgbm": 0.55, "best": best},
        bayes=BayesLoss(expected=0.5, expected_error=0.0, realised=0.5, realised_error=0.01),
        against_prior=gap(0.6),
        against_volatility=gap(volatility),
    )


@pytest.mark.parametrize(
    ("best", "half_width", "volatility", "passed"),
    [
        (0.52, 0.01, 0.56, True),
        (0.54, 0.01, 0.58, False),  # better than chance, far from the Bayes loss
        (0.52, 0.09, 0.56, False),  # near the Bayes loss, but inside the noise
        (0.52, 0.01, 0.525, False),  # no better than volatility alone
        (0.60, 0.01, 0.56, False),
    ],
)
def test_a_planted_signal_must_be_found_beyond_noise_and_volatility(
    best: float, half_width: float, volatility: float, passed: bool
):
    assert arm(planted=True, best=best, half_width=half_width, volatility=volatility).passed == passed


@pytest.mark.parametrize(("best", "passed"), [(0.595, True), (0.61, True), (0.57, False)])
def test_nothing_may_be_found_in_shuffled_labels(best: float, passed: bool):
    found = arm(planted=False, best=best)
    assert found.passed == passed
    assert found.verdict.startswith("no signal" if passed else "a signal where there is none")


def test_the_share_is_measured_between_the_prior_and_the_bayes_loss():
    found = arm(planted=True, best=0.52)
    assert found.share == pytest.approx(0.8)
    assert "80% of the way to the Bayes loss" in found.verdict


def test_the_two_sweeps_differ_in_market_and_labels_alone():
    planted, shuffled = arms_of(ControlOptions(signal=0.7, lag=9, bars=500, seed=4)).values()
    assert planted.data == "synthetic:bars=500,lag=9,signal=0.7,seed=4"
    assert shuffled.data == "synthetic:bars=500,lag=9,signal=0,seed=5"
    assert (planted.shuffle_labels, shuffled.shuffle_labels) == (None, 4)
    assert (planted.budget, planted.trials, planted.layers) == (shuffled.budget, shuffled.trials, shuffled.layers)


def test_a_horizon_beyond_the_lag_is_refused_before_anything_runs(store_root: Path):
    with pytest.raises(InputError, match="HORIZON=5: the planted drift repeats the day 4 back"):
        control.main(ControlOptions(store=store_root, horizon=5, lag=4))


def test_shuffled_labels_keep_their_base_rate_and_lose_their_order():
    bars = {"SYNTHETIC": market_bars(market_from_settings(parse_settings("bars=2000")))}
    plain, shuffled = (
        assemble(options, bars, digest="", source="synthetic").prepared
        for options in (arms_of(ControlOptions())["planted signal"], arms_of(ControlOptions())["shuffled labels"])
    )
    rows = slice(0, 1999)
    assert plain.labels[rows].mean() == shuffled.labels[rows].mean()
    assert (plain.labels != shuffled.labels).mean() > 0.2
    assert plain.target_digest != shuffled.target_digest


def test_a_pipeline_that_has_learned_nothing_fails_its_positive_control(store_root: Path, capsys: pytest.CaptureFixture[str]):
    """One epoch of one trial on three thousand days is too little: the verb must say so, and leave a run that does."""
    with pytest.raises(SystemExit) as ended:
        control.main(ControlOptions(store=store_root, **TINY))  # type: ignore[arg-type]
    assert ended.value.code == control.FAILED
    told = capsys.readouterr().out
    assert "planted signal: the signal was missed" in told
    assert "shuffled labels: no signal" in told
    assert "A control failed: believe no result until it passes." in told
    store = open_store(store_root)
    (run,) = query.runs_of_kind(store, list(query.experiments(store)), ["control"])
    assert run.name == "2K-h1 FAILED"
    assert (run.metrics["planted/passed"], run.metrics["shuffled/passed"]) == (0, 1)
    asked = {"bars": 3000, "signal": 0.5, "lag": 20, "seed": 0, "horizon": 1, "budget": "2K", "trials": 1}
    assert {name: run.params[name] for name in asked} == asked
    assert run.metrics["planted/bayes_loss"] < run.metrics["planted/prior_loss"]
    assert query.experiments(store)[run.experiment_id] == schema.CONTROL_EXPERIMENT


def test_a_sweep_on_a_synthetic_market_knows_the_lowest_loss_there_is(store_root: Path):
    store = open_store(store_root)
    asked = SweepOptions(store=store_root, data="synthetic:bars=3000,signal=0.5", epochs=1)
    task = load_task(asked, store)
    assert task.bayes is not None
    metrics = evidence_metrics(task)
    assert metrics["sweep/bayes_loss"] == task.bayes.realised
    losses = row_losses(logits_of(BASELINES["volatility"](task.baseline_rows)), task.prepared.labels_of("validation"))
    assert task.bayes.realised < losses.mean()
    assert load_task(replace(asked, shuffle_labels=0), store).bayes is None
    real = load_task(SweepOptions(store=store_root), store)
    assert real.bayes is None
    assert "sweep/bayes_loss" not in evidence_metrics(real)


@pytest.mark.slow
def test_the_pipeline_passes_its_controls(store_root: Path, capsys: pytest.CaptureFixture[str]):
    control.main(ControlOptions(store=store_root, trials=2, device="cpu", workers=1, threads=1))
    told = capsys.readouterr().out
    assert "The pipeline finds what is there and nothing that is not." in told
    assert commands_to_type(told, store_root) == ["make sweep"]
