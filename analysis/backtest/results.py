"""The backtest of one run's predictions: strategies, their distances, and the deflated Sharpe ratio. Numbers only."""

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
MIN_EARLIER_TRADES = 250
"""Earlier sessions that a break-even probability must rest on, one trade from each."""
MAX_TRIALS_READ = 300
"""Trials whose predictions are read; the variance of their Sharpe ratios needs no more."""


@dataclass(frozen=True, kw_only=True)
class BacktestResult:
    """Result of the backtest of one run."""

    data: BacktestInput
    cost: float
    """Cost per side, as a share of the traded value."""
    threshold: float
    rule: str
    """Origin of the threshold, in words."""
    strategies: dict[str, Strategy]
    """Strategies by name, the model first."""
    against: dict[str, PairTest]
    """Strategy -> the model's daily returns against its own: positive where the model earns more."""
    correlations: dict[str, float]
    """Reference -> rank correlation of its probabilities with the model's."""
    shared: dict[str, float]
    """Reference -> share of the model's entries that the reference with equal entries has too."""
    deflated: float
    """Probability that the true Sharpe ratio exceeds that of the best of all trials without skill; NaN if the spread of
    fewer than two trials is known."""
    trials: int
    """Trials that could have been chosen."""
    spread: float
    """Standard deviation of their daily Sharpe ratios, on the validation days under the same rule."""
    trials_read: int
    """Trials that `spread` is estimated from."""


def run_backtest(store: Store, data: BacktestInput, *, cost: float, enter: str) -> BacktestResult:
    """Backtest the predictions with a threshold that uses none of their days. `cost` is a share, per side."""
    market = market_of(data.bars, data.rows, data.target)
    _require_same_bars(data, market)
    threshold, rule = _threshold(data, enter, market, cost)
    probabilities = data.rows["probability"].to_numpy(np.float64)
    chosen = probabilities >= threshold
    count = int(chosen.sum())
    strategies = {MODEL: strategy_of(MODEL, data, market, chosen, cost)}
    for name, reference in data.references.items():
        if enter not in CHOSEN:
            strategies[name] = strategy_of(name, data, market, reference >= threshold, cost)
        equal = equal_entries(name)
        strategies[equal] = strategy_of(equal, data, market, top(reference, count), cost)
    strategies[EVERY_DAY] = strategy_of(EVERY_DAY, data, market, np.ones(len(chosen), dtype=bool), cost)
    strategies[HOLD] = holding(market, cost)
    returns = {name: strategy.account.returns for name, strategy in strategies.items()}
    model_returns = returns.pop(MODEL)
    trials, spread, trials_read = _trial_sharpes(store, data, enter, threshold, cost)
    benchmark = expected_best_sharpe(trials, spread)
    return BacktestResult(
        data=data,
        cost=cost,
        threshold=threshold,
        rule=rule,
        strategies=strategies,
        against={name: pair_test(model_returns, other, data.target.horizon) for name, other in returns.items()},
        correlations={name: _rank_correlation(probabilities, other) for name, other in data.references.items()},
        shared={
            name: float((chosen & top(reference, count)).sum() / max(count, 1)) for name, reference in data.references.items()
        },
        deflated=probabilistic_sharpe(model_returns, benchmark) if trials_read > 1 else float("nan"),
        trials=trials,
        spread=spread,
        trials_read=trials_read,
    )


def equal_entries(reference: str) -> str:
    """Return the name of the strategy that enters as often as the model, on the reference's highest probabilities."""
    return f"{reference}, equal entries"


def top(probabilities: Array, count: int) -> Mask:
    """Return a mask of the `count` highest probabilities; among equal ones the earlier row is taken."""
    chosen = np.zeros(len(probabilities), dtype=bool)
    chosen[np.argsort(-probabilities, kind="stable")[:count]] = True
    return chosen


def break_even(wins: Array, losses: Array) -> float:
    """Return the probability of label 1 at which the trade earns nothing.

    `wins` and `losses` are net returns of trades with label 1 and label 0; the result solves p win + (1 - p) loss = 0. It is
    1 if even a certain label 1 would not pay, 0 if a label 0 loses nothing.
    """
    win, loss = float(wins.mean()), float(losses.mean())
    return float(np.clip(-loss / (win - loss), 0, 1)) if win > 0 else 1.0


def _threshold(data: BacktestInput, enter: str, market: BacktestMarket, cost: float) -> tuple[float, str]:
    """Return the threshold and its origin in words."""
    if enter == BREAK_EVEN:
        threshold, sessions = _earlier_break_even(data, market, cost)
        return threshold, f"break-even, by the trades of the {sessions:,} sessions before the first predicted one"
    if enter in CHOSEN:
        fix = f"it is chosen on the validation days themselves; for a trial give {BREAK_EVEN} or a number."
        require(data.split == "test", "ENTER", enter, fix)
        return data.run.metrics[CHOSEN[enter]], f"{enter}, chosen on validation days by the trial"
    try:
        threshold = float(enter)
    except ValueError:
        raise InputError(f"ENTER={enter}: give {BREAK_EVEN}, a probability such as 0.4, or {', '.join(CHOSEN)}.") from None
    require(0 <= threshold <= 1, "ENTER", enter, "give a probability between 0 and 1.")
    return threshold, "as given"


def _earlier_break_even(data: BacktestInput, market: BacktestMarket, cost: float) -> tuple[float, int]:
    """Return the break-even probability and the number of trades behind it.

    Its trades were closed before the first predicted session of any instrument; one threshold serves all instruments.
    """
    first = min(trades.days[0] for trades in market.traded)
    earlier = {symbol: bars[bars.index < first] for symbol, bars in data.bars.items()}
    trades_by_symbol = [
        outcomes(symbol, bars, data.target) for symbol, bars in earlier.items() if len(bars) > data.target.horizon
    ]
    count = sum(len(trades.labels) for trades in trades_by_symbol)
    fix = f"{', '.join(earlier)} has {count} earlier trades, too few to estimate what they earn; give a probability."
    require(count >= MIN_EARLIER_TRADES, "ENTER", BREAK_EVEN, fix)
    wins = np.concatenate([trades.net(cost)[trades.labels] for trades in trades_by_symbol])
    losses = np.concatenate([trades.net(cost)[~trades.labels] for trades in trades_by_symbol])
    require(len(wins) > 0 and len(losses) > 0, "ENTER", BREAK_EVEN, "all earlier labels are the same; give a probability.")
    return break_even(wins, losses), count


def _require_same_bars(data: BacktestInput, market: BacktestMarket) -> None:
    """Raise `InputError` if a row's label differs from its trade: days, prices or question are not those of the run."""
    labels = data.rows["label"].to_numpy()
    for trades in market.traded:
        rows, sessions = market.positions[trades.symbol]
        wrong = int((trades.labels[sessions] != (labels[rows] == 1)).sum())
        fix = f"{wrong} labels of {trades.symbol} disagree with its bars: they belong to other bars or another question."
        require(wrong == 0, "RUN", data.run.run_id[:12], fix)


def _trial_sharpes(store: Store, data: BacktestInput, enter: str, threshold: float, cost: float) -> tuple[int, float, int]:
    """Return the number of trials that could have been chosen, the spread of their Sharpe ratios, and how many were read."""
    runs = data.trials[:: max(1, -(-len(data.trials) // MAX_TRIALS_READ))]
    if not runs:
        return 1, 0.0, 0
    on_test = data.split == "test"
    rows = query.predictions(store, data.run.tags[schema.TRAINED_FROM]) if on_test else data.rows
    market = market_of(data.bars, rows, data.target)
    if enter == BREAK_EVEN:
        threshold, _ = _earlier_break_even(data, market, cost)
    ratios = []
    for run in runs:
        probabilities = same_rows(store, run, rows)
        if probabilities is not None:
            ratios.append(sharpe(account(market.traded, market.enters(probabilities >= threshold), cost).returns))
    finite = np.array([ratio for ratio in ratios if np.isfinite(ratio)])
    return len(data.trials), float(finite.std(ddof=1)) if len(finite) > 1 else 0.0, len(finite)


def _rank_correlation(first: Array, second: Array) -> float:
    return float(spearmanr(first, second).statistic) if np.ptp(first) > 0 and np.ptp(second) > 0 else float("nan")
