"""What a reading concludes where the truth is known: an edge that was planted, and none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.backtest import table as told
from analysis.backtest.output import metrics
from analysis.backtest.predictions import VOLATILITY, BacktestInput
from analysis.backtest.results import EVERY_DAY, MODEL, BacktestResult, break_even, equal_entries, run_backtest, top
from analysis.backtest.strategies import HOLD
from research.errors import InputError
from research.spec import TargetSpec
from research.task.targets import label
from research.tracking.query import RunRecord
from research.tracking.store import Store
from tests.conftest import random_bars

DAYS, EARLIER, COST = 1500, 700, 2e-4
UNUSED = Store(root=Path("nowhere"), uri="sqlite:///nowhere")
BARS = random_bars(11, DAYS)
RUN = RunRecord(
    run_id="0123456789abcdef", name="0000 d4", kind="trial", status="FINISHED", experiment_id="1", started=0, ended=1,
    params={}, metrics={}, tags={},
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.backtest.performance.RESAMPLES", 200)


def subject(
    seed: int, *, edge: float = 0.0, horizon: int = 3, kind: str = "threshold", bars: pd.DataFrame = BARS
) -> BacktestInput:
    """Probabilities around the base rate that know as much of the label as `edge` says; volatility knows nothing."""
    rng = np.random.default_rng(seed)
    target = TargetSpec(horizon=horizon, kind=kind)  # type: ignore[arg-type]
    rows = np.arange(EARLIER, DAYS - horizon)
    labels = label(bars, target).labels[rows]
    said, volatility = (np.clip(0.5 + 0.1 * rng.normal(size=len(rows)) + know * (labels - 0.5), 0, 1) for know in (edge, 0.0))
    table = pd.DataFrame({"date": bars.index[rows], "symbol": "X", "label": labels, "probability": said})
    return BacktestInput(
        run=RUN,
        experiment="invented",
        split="validation",
        target=target,
        rows=table,
        references={VOLATILITY: volatility},
        bars={"X": bars},
        trials=(),
    )


def reading(one: BacktestInput, enter: str = "break-even", cost: float = COST) -> BacktestResult:
    return run_backtest(UNUSED, one, cost=cost, enter=enter)


def test_an_edge_that_was_planted_is_found() -> None:
    found = reading(subject(1, edge=0.3))
    mine = found.strategies[MODEL].performance
    assert mine.low > 1
    assert found.against[equal_entries(VOLATILITY)].difference.low > 0
    assert found.against[HOLD].difference.low > 0
    assert mine.probabilistic_sharpe > 0.99
    said = " ".join(told.backtest_sentences(found))
    assert "better than one volatility number" in said
    assert "it beats buy-and-hold" in said


def test_without_an_edge_nothing_is_claimed() -> None:
    """A rising market lets random entries earn; what they may not do is beat another random forecast, or holding."""
    said = [" ".join(told.backtest_sentences(reading(subject(seed), enter="0.55"))) for seed in range(12)]
    only = "NO MORE THAN VOLATILITY, which it does not follow: its daily results cannot be told from those of one volatility"
    assert sum(only in one for one in said) >= 10
    assert not any("it beats buy-and-hold" in one for one in said)


def test_volatility_seen_through_noise_is_called_volatility() -> None:
    """The forecast follows the reference, with a rank correlation of about .8, and knows nothing else."""
    said = []
    for seed in range(6):
        one = subject(seed)
        follows = one.references[VOLATILITY] + 0.07 * np.random.default_rng(seed + 100).normal(size=len(one.rows))
        said.append(
            " ".join(told.backtest_sentences(reading(replace(one, rows=one.rows.assign(probability=follows)), enter="0.55")))
        )
    assert sum("VOLATILITY ONLY: its daily results" in one for one in said) >= 5


def test_few_trades_establish_nothing() -> None:
    said = " ".join(told.backtest_sentences(reading(subject(1), enter="0.75")))
    assert "trades are too few to tell the signal from one volatility number" in said
    nothing = reading(subject(1), enter="1")
    assert told.backtest_sentences(nothing) == [
        "no probability reaches 1.000: nothing is traded at these costs, nothing can be concluded."
    ]


def test_the_same_entries_cannot_be_told_apart_whatever_is_true() -> None:
    said = " ".join(told.backtest_sentences(reading(subject(1, edge=0.3), enter="0")))
    assert "enters as the volatility regression does; these entries cannot tell the two signals apart" in said
    assert "would be seen" not in said
    assert "VOLATILITY ONLY" not in said


def test_a_downside_with_an_edge_earns_by_selling_first() -> None:
    found = reading(subject(2, edge=0.3, kind="downside"))
    assert found.strategies[MODEL].performance.low > 0
    assert "sell short at the close" in told.describe_trade(found.data)


def test_the_break_even_probability_makes_the_mean_trade_worth_nothing() -> None:
    wins, losses = np.array([0.01, 0.012]), np.array([-0.02, -0.004, -0.006])
    found = break_even(wins, losses)
    assert found * wins.mean() + (1 - found) * losses.mean() == pytest.approx(0)
    assert break_even(-wins, losses) == 1
    assert break_even(wins, -losses) == 0


def test_the_threshold_knows_nothing_of_the_predicted_days() -> None:
    before = reading(subject(1)).threshold
    after = BARS.copy()
    after.iloc[EARLIER + 1 :, :4] *= np.linspace(1, 3, DAYS - EARLIER - 1)[:, None]
    assert reading(subject(1, bars=after)).threshold == before
    assert reading(subject(1), cost=20e-4).threshold > before


def test_a_younger_instrument_adds_nothing_to_the_threshold_that_others_could_not_know() -> None:
    one = subject(1)
    young = one.rows[one.rows["date"] >= BARS.index[EARLIER + 400]].assign(symbol="Y")
    rows = pd.concat([one.rows, young], ignore_index=True)
    changed = BARS.copy()
    changed.iloc[EARLIER + 1 : EARLIER + 400, :4] *= np.linspace(1, 3, 399)[:, None]
    changed.iloc[EARLIER + 400 :, :4] *= 3

    def threshold(bars: pd.DataFrame) -> float:
        both = replace(one, rows=rows, references={}, bars={"X": BARS, "Y": bars})
        return reading(both).threshold

    assert threshold(changed) == threshold(BARS)


def test_without_other_trials_no_number_is_called_deflated() -> None:
    alone = reading(subject(1, edge=0.3))
    assert "Not deflated" in " ".join(told.backtest_sentences(alone))
    assert "backtest/deflated_sharpe" not in metrics(alone)
    assert "backtest/probabilistic_sharpe" in metrics(alone)


def test_costs_are_taken_from_every_account_and_break_even_says_how_many_it_bears() -> None:
    free, dear = (reading(subject(1, edge=0.3), enter="0.5", cost=cost) for cost in (0.0, 10e-4))
    for name in (MODEL, equal_entries(VOLATILITY), EVERY_DAY, HOLD):
        assert dear.strategies[name].performance.total < free.strategies[name].performance.total
    bears = free.strategies[MODEL].break_even_cost
    at_that = reading(subject(1, edge=0.3), enter="0.5", cost=bears / 1e4).strategies[MODEL]
    assert at_that.trades["net"].mean() == pytest.approx(0, abs=1e-12)


def test_a_reference_enters_as_often_where_it_says_most() -> None:
    found = reading(subject(1, edge=0.1), enter="0.6")
    assert found.strategies[equal_entries(VOLATILITY)].entries == found.strategies[MODEL].entries > 0
    assert top(np.array([0.3, 0.9, 0.3, 0.5]), 3).tolist() == [True, True, False, True]


def test_other_bars_than_those_of_the_labels_are_refused() -> None:
    one = subject(1)
    with pytest.raises(InputError, match=r"labels of X disagree with its bars"):
        reading(replace(one, bars={"X": random_bars(12, DAYS).set_axis(BARS.index)}))
    with pytest.raises(InputError, match="its bars do not hold all predicted days"):
        reading(replace(one, bars={"X": BARS.iloc[:-1]}))


def test_too_few_earlier_sessions_give_no_break_even() -> None:
    with pytest.raises(InputError, match=r"ENTER=break-even: X has 97 earlier trades, too few"):
        reading(replace(subject(1), bars={"X": BARS.iloc[EARLIER - 100 :]}))


@pytest.mark.parametrize(
    ("enter", "match"),
    [
        ("F1", "ENTER=F1: it is chosen on the validation days themselves"),
        ("often", "ENTER=often: give break-even, a probability such as 0.4, or F1, base rate, top tenth"),
        ("1.5", "give a probability between 0 and 1"),
        ("nan", "give a probability between 0 and 1"),
    ],
)
def test_a_threshold_that_cannot_be_meant_is_one_sentence(enter: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        reading(subject(1), enter=enter)
