"""`make baselines` reproduces the published walk-forward, predicts each day once, and trains on the past alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from pipelines.checks import baselines
from pipelines.checks.baseline_walk_forward import BaselineResult, Forecasts, forecasts, pooled, standings, years_of
from pipelines.checks.baselines import BaselinesOptions
from research.data.bundled import bundled
from research.errors import InputError
from research.evaluation.metrics import row_losses
from research.evaluation.significance import daily_means, paired_difference
from research.models.baselines import BASELINES, training_prior
from research.task.build import TaskData, assemble
from research.tracking import query, schema
from research.tracking.store import open_store
from tests.support.verbs import commands_to_type

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


@cache
def assembled(horizon: int) -> TaskData:
    return assemble(BaselinesOptions(horizon=horizon), bundled().bars, digest="", source="bundled")


@cache
def walked(horizon: int) -> tuple[Forecasts, dict[str, BaselineResult]]:
    with threadpool_limits(1):
        said = pooled(list(forecasts(assembled(horizon), (2005, 2018))))
    return said, {row.baseline: row for row in standings(said)}


@horizons
def test_the_walk_forward_has_the_published_days_and_base_rate(horizon: int):
    said, _ = walked(horizon)
    assert len(said.labels) == 3523 - horizon
    assert said.labels.mean() == pytest.approx(PUBLISHED[horizon][0], abs=0.0005)
    assert said.days.is_unique
    assert said.days.is_monotonic_increasing


@horizons
@pytest.mark.parametrize("name", ["prior", "volatility", "logistic", "lightgbm"])
def test_a_baseline_reproduces_its_published_loss(horizon: int, name: str):
    row = walked(horizon)[1][name]
    assert row.loss.mean == pytest.approx(PUBLISHED[horizon][1][name], abs=LOSS_TOLERANCE)
    assert row.loss.low < row.loss.mean < row.loss.high


@horizons
@pytest.mark.parametrize("name", ["volatility", "logistic", "lightgbm"])
def test_a_baseline_reproduces_its_published_ranking(horizon: int, name: str):
    assert walked(horizon)[1][name].auc == pytest.approx(PUBLISHED_AUC[horizon][name], abs=AUC_TOLERANCE)


@horizons
def test_features_say_more_than_volatility_and_volatility_more_than_the_prior(horizon: int):
    rows = walked(horizon)[1]
    assert rows["logistic"].loss.mean < rows["volatility"].loss.mean < rows["prior"].loss.mean
    assert rows["lightgbm"].loss.mean < rows["volatility"].loss.mean
    assert rows["prior"].skill == 0
    assert rows["logistic"].against_prior.high < 0


def test_a_year_is_predicted_without_its_own_days(monkeypatch: pytest.MonkeyPatch):
    """Bars of the predicted year may change in any way: what was known on its first day stays."""
    bars = {"^GSPC": bundled().bars["^GSPC"]}
    crash = bars["^GSPC"].copy()
    crash.loc["2010-01-05":, ["open", "high", "low", "close"]] *= 0.5
    known, other = (
        next(forecasts(assemble(BaselinesOptions(horizon=1), one, digest="", source="bundled"), (2010, 2010), ["logistic"]))
        for one in (bars, {"^GSPC": crash})
    )
    assert known.days[0] == pd.Timestamp("2010-01-04")
    assert known.logits["logistic"][0] == other.logits["logistic"][0]
    assert known.logits["logistic"][5] != other.logits["logistic"][5]


def test_an_embargo_leaves_out_the_last_sessions_before_the_year(monkeypatch: pytest.MonkeyPatch):
    bars = {"^GSPC": bundled().bars["^GSPC"]}
    found = assemble(BaselinesOptions(horizon=3, embargo=10), bars, digest="", source="bundled")
    seen: list[int] = []
    monkeypatch.setitem(BASELINES, "prior", lambda rows: seen.append(len(rows.labels_train)) or training_prior(rows))
    for one in (found, assembled(3)):
        next(forecasts(one, (2010, 2010), ["prior"]))
    assert seen[1] - seen[0] == 10


def test_a_pool_is_predicted_by_day_and_instrument():
    """A younger instrument: a day counts once, whatever number of instruments it has."""
    bars = {"^GSPC": bundled().bars["^GSPC"], "NEW": bundled().bars["^IXIC"]["2006-07-01":]}  # type: ignore[misc]
    asked = BaselinesOptions(symbols=("all",), horizon=1)
    found = assemble(asked, bars, digest="", source="bundled")
    said = pooled(list(forecasts(found, (2010, 2011), ["prior"])))
    for symbol in bars:
        own = bars[symbol]["2010":"2011"].index  # type: ignore[misc]
        assert said.days[said.symbols == symbol].equals(own)
    labels = dict(zip(found.prepared.days[found.prepared.symbols == 0], found.prepared.parts[0].target.labels, strict=True))
    assert said.labels[said.symbols == "NEW"].tolist() == [labels[day] for day in said.days[said.symbols == "NEW"]]
    (prior,) = standings(said)
    daily = daily_means(row_losses(said.logits["prior"], said.labels), said.days.to_numpy())
    assert len(daily) == said.days.nunique() == len(said.labels) / 2
    assert (prior.loss.low, prior.loss.high) == pytest.approx(
        [getattr(paired_difference(daily, np.zeros_like(daily)), end) for end in ("low", "high")]
    )
    only = assemble(replace(asked, validate_on=("^GSPC",)), bars, digest="", source="bundled")
    assert set(next(forecasts(only, (2010, 2010), ["prior"])).symbols) == {"^GSPC"}


def test_an_instrument_that_a_year_does_not_have_is_named():
    bars = bundled().bars
    late = {"^GSPC": bars["^GSPC"], "NEW": bars["^IXIC"]["2006-07-01":]}  # type: ignore[misc]
    found = assemble(BaselinesOptions(symbols=("all",), horizon=1), late, digest="", source="bundled")
    with pytest.raises(InputError, match="NEW: YEARS=2005-2005: 2005 has 0 labelled days"):
        next(forecasts(found, (2005, 2005), ["prior"]))


def test_the_usual_years_begin_after_a_thousand_training_windows():
    assert years_of(assembled(1), "") == (2005, 2018)
    assert years_of(assembled(1), "2007-2009") == (2007, 2009)


@pytest.mark.parametrize("text", ["2005", "2005-x", "2005-2006-2007", "all", "2006-2005", "0001-0002", "20050-20060"])
def test_years_that_are_no_pair_are_refused(text: str):
    with pytest.raises(InputError, match=f"YEARS={text}: give a first and a last year"):
        years_of(assembled(1), text)


def test_the_verb_prints_a_table_and_leaves_a_run_per_question(store_root: Path, capsys: pytest.CaptureFixture[str]):
    baselines.main(BaselinesOptions(store=store_root, horizons=(1,), thresholds=(0.01, 0.02), years="2017-2018"))
    told = capsys.readouterr().out
    assert "walk-forward 2017-2018 on ^GSPC" in told
    assert commands_to_type(told, store_root) == ["make sweep", "make ui"]
    assert told.count("logistic") == 2
    store = open_store(store_root)
    runs = query.runs_of_kind(store, list(query.experiments(store)), ["report"])
    assert [run.params["threshold"] for run in runs] == [0.01, 0.02]
    assert {run.outcome for run in runs} == {"complete"}
    said = pd.read_parquet(store.local_artifact(runs[0].run_id, schema.WALK_FORWARD_FILE))
    assert list(said.columns) == ["date", "symbol", "label", "prior", "volatility", "logistic", "lightgbm"]
    assert runs[0].metrics["n"] == len(said) == 501
    loss = -np.log(np.where(said["label"] == 1, said["logistic"], 1 - said["logistic"])).mean()
    assert runs[0].metrics["logistic/loss"] == pytest.approx(loss)
    assert query.trials(store).empty


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"features": "s50", "index": "^IXIC"}, "FEATURES=s50: baselines see a25s"),
        ({"train_end": date(2010, 1, 1)}, "TRAIN_END=2010-01-01: baselines see a25s"),
        ({"horizon": 3}, "HORIZON=3: baselines take a list; give HORIZONS=3"),
        ({"windows": "1K"}, "WINDOWS=1K: baselines see a25s and all days before each year"),
    ],
)
def test_what_means_nothing_here_is_refused(store_root: Path, changes: dict[str, object], told: str):
    with pytest.raises(InputError, match=told):
        baselines.main(BaselinesOptions(store=store_root, **changes))  # type: ignore[arg-type]
