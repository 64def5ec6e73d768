"""The economic reading of one run's predictions: accounts, their distances, and what they establish. Numbers only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from analysis.backtest.performance import expected_best_sharpe, probabilistic_sharpe, sharpe
from analysis.backtest.predictions import BacktestInput, same_rows
from analysis.backtest.strategies import HOLD, BacktestMarket, Strategy, holding, market_of, strategy_of
from analysis.backtest.trades import Mask, account, outcomes
from research.errors import InputError, require
from research.evaluation.forecast_tests import PairTest, pair_test
from research.tracking import query, schema
from research.tracking.store import Store

Array = NDArray[np.float64]

BREAK_EVEN = "break-even"
CHOSEN = {"F1": "at_F1/threshold", "base rate": "at_base_rate/threshold", "top tenth": "at_top_tenth/threshold"}
"""Rules whose thresholds an evaluation takes from validation days, and the metrics that hold them."""
MODEL, EVERY_DAY = "model", "every session"
FEWEST_TRADES = 250
"""Earlier sessions that a break-even probability must rest on, a trade from each."""
MOST_TRIALS = 300
"""Trials whose predictions are read; the variance of their Sharpe ratios needs no more."""


@dataclass(frozen=True, kw_only=True)
class BacktestResult:
    """All that is told of one run."""

    subject: BacktestInput
    cost: float
    """Per side, as a share of the traded value."""
    threshold: float
    rule: str
    """Where the threshold comes from, in words."""
    strategies: dict[str, Strategy]
    """The model first."""
    against: dict[str, PairTest]
    """Strategy -> the model's daily returns against its own: positive where the model earns more."""
    alike: dict[str, float]
    """Reference -> rank correlation of its probabilities with the model's."""
    shared: dict[str, float]
    """Reference -> share of the model's entries that its as many entries have too."""
    deflated: float
    """Probability that the true Sharpe ratio is above what the best of all trials without skill would show; NaN if fewer
    than two of them tell their spread."""
    trials: int
    """Trials that could have been chosen."""
    spread: float
    """Standard deviation of their Sharpe ratios per day, on the validation days under the same rule."""
    trials_read: int
    """Trials that this is estimated from."""


def run_backtest(store: Store, subject: BacktestInput, *, cost: float, enter: str) -> BacktestResult:
    """Everything, by a threshold that knows nothing of the days it is used on. `cost` is a share, per side."""
    market = market_of(subject.bars, subject.rows, subject.target)
    _require_same_bars(subject, market)
    threshold, rule = _threshold(subject, enter, market, cost)
    model = subject.rows["probability"].to_numpy(np.float64)
    chosen = model >= threshold
    strategies = {MODEL: strategy_of(MODEL, subject, market, chosen, cost)}
    for name, said in subject.references.items():
        if enter not in CHOSEN:
            strategies[name] = strategy_of(name, subject, market, said >= threshold, cost)
        same = as_many(name)
        strategies[same] = strategy_of(same, subject, market, top(said, int(chosen.sum())), cost)
    strategies[EVERY_DAY] = strategy_of(EVERY_DAY, subject, market, np.ones(len(model), dtype=bool), cost)
    strategies[HOLD] = holding(market, cost)
    mine = strategies[MODEL].account.returns
    others = {name: one.account.returns for name, one in strategies.items() if name != MODEL}
    trials, spread, count = _trials(store, subject, enter, threshold, cost)
    return BacktestResult(
        subject=subject,
        cost=cost,
        threshold=threshold,
        rule=rule,
        strategies=strategies,
        against={name: pair_test(mine, returns, subject.target.horizon) for name, returns in others.items()},
        alike={name: _rank_correlation(model, said) for name, said in subject.references.items()},
        shared={
            name: float((chosen & top(said, int(chosen.sum()))).sum() / max(chosen.sum(), 1))
            for name, said in subject.references.items()
        },
        deflated=probabilistic_sharpe(mine, expected_best_sharpe(trials, spread)) if count > 1 else float("nan"),
        trials=trials,
        spread=spread,
        trials_read=count,
    )


def as_many(reference: str) -> str:
    """Name of the reference that enters as often as the model."""
    return f"{reference}, as many entries"


def top(said: Array, count: int) -> Mask:
    """The rows with the highest probabilities; the earlier one where they are equal."""
    chosen = np.zeros(len(said), dtype=bool)
    chosen[np.argsort(-said, kind="stable")[:count]] = True
    return chosen


def break_even(wins: Array, losses: Array) -> float:
    """Probability of a 1 at which the trade earns nothing, from the net returns of trades with label 1 and with label 0.

    p win + (1 - p) loss = 0. 1 where even a certain 1 would not pay, 0 where a 0 loses nothing.
    """
    win, loss = float(wins.mean()), float(losses.mean())
    return float(np.clip(-loss / (win - loss), 0, 1)) if win > 0 else 1.0


def _threshold(subject: BacktestInput, enter: str, market: BacktestMarket, cost: float) -> tuple[float, str]:
    if enter == BREAK_EVEN:
        found, sessions = _earlier_break_even(subject, market, cost)
        return found, f"break-even, by the trades of the {sessions:,} sessions before the first predicted one"
    if enter in CHOSEN:
        fix = f"it is chosen on the validation days themselves; for a trial give {BREAK_EVEN} or a number."
        require(subject.split == "test", "ENTER", enter, fix)
        return subject.run.metrics[CHOSEN[enter]], f"{enter}, chosen on validation days by the trial"
    try:
        found = float(enter)
    except ValueError:
        raise InputError(f"ENTER={enter}: give {BREAK_EVEN}, a probability such as 0.4, or {', '.join(CHOSEN)}.") from None
    require(0 <= found <= 1, "ENTER", enter, "give a probability between 0 and 1.")
    return found, "as given"


def _earlier_break_even(subject: BacktestInput, market: BacktestMarket, cost: float) -> tuple[float, int]:
    """From sessions whose trades were over before the first predicted one of any instrument: one threshold serves all."""
    first = min(one.days[0] for one in market.traded)
    earlier = {symbol: frame[frame.index < first] for symbol, frame in subject.bars.items()}
    before = [outcomes(name, bars, subject.target) for name, bars in earlier.items() if len(bars) > subject.target.horizon]
    known = sum(len(one.labels) for one in before)
    fix = f"there are {known} earlier trades of {', '.join(earlier)}, too few to tell what they earn; give a probability."
    require(known >= FEWEST_TRADES, "ENTER", BREAK_EVEN, fix)
    won = np.concatenate([one.net(cost)[one.labels] for one in before])
    lost = np.concatenate([one.net(cost)[~one.labels] for one in before])
    require(len(won) > 0 and len(lost) > 0, "ENTER", BREAK_EVEN, "all earlier labels are the same; give a probability.")
    return break_even(won, lost), len(won) + len(lost)


def _require_same_bars(subject: BacktestInput, market: BacktestMarket) -> None:
    """The label of every row must be what its trade found: else days, prices or question are not those of the run."""
    labels = subject.rows["label"].to_numpy()
    for one in market.traded:
        rows, sessions = market.places[one.symbol]
        wrong = int((one.labels[sessions] != (labels[rows] == 1)).sum())
        fix = f"{wrong} labels of {one.symbol} are not what its bars say: they are of other bars or another question."
        require(wrong == 0, "RUN", subject.run.run_id[:12], fix)


def _trials(store: Store, subject: BacktestInput, enter: str, threshold: float, cost: float) -> tuple[int, float, int]:
    """How many could have been chosen, the spread of their Sharpe ratios per day, and how many tell it."""
    runs = subject.trials[:: max(1, -(-len(subject.trials) // MOST_TRIALS))]
    if not runs:
        return 1, 0.0, 0
    on_test = subject.split == "test"
    rows = query.predictions(store, subject.run.tags[schema.TRAINED_FROM]) if on_test else subject.rows
    market = market_of(subject.bars, rows, subject.target)
    at = _earlier_break_even(subject, market, cost)[0] if enter == BREAK_EVEN else threshold
    said = [same_rows(store, run, rows) for run in runs]
    found = [sharpe(account(market.traded, market.enters(one >= at), cost).returns) for one in said if one is not None]
    known = np.array([one for one in found if np.isfinite(one)])
    return len(subject.trials), float(known.std(ddof=1)) if len(known) > 1 else 0.0, len(known)


def _rank_correlation(one: Array, other: Array) -> float:
    return float(spearmanr(one, other).statistic) if np.ptp(one) > 0 and np.ptp(other) > 0 else float("nan")
