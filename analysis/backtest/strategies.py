"""Strategies: which rows are entered, aligned with the sessions of their instruments, and the result of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.backtest.performance import Performance, performance
from analysis.backtest.predictions import BacktestInput
from analysis.backtest.trades import EquityCurve, Mask, TradeOutcomes, account, buy_and_hold, outcomes
from research.errors import require
from research.spec import TargetSpec

HOLD = "buy and hold"


@dataclass(frozen=True, kw_only=True)
class BacktestMarket:
    """Rows of the predictions, aligned with the sessions of their instruments."""

    traded: list[TradeOutcomes]
    """Per instrument, from its first predicted session to its last."""
    positions: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    """Instrument -> its rows, and the session of each."""

    def enters(self, chosen: Mask) -> dict[str, Mask]:
        """Return, per instrument, whether to enter at each of its sessions, from whether to enter at each row."""
        by_symbol = {}
        for trades in self.traded:
            rows, sessions = self.positions[trades.symbol]
            by_symbol[trades.symbol] = np.zeros(len(trades.entry), dtype=bool)
            by_symbol[trades.symbol][sessions] = chosen[rows]
        return by_symbol


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One way of choosing entries, with its account and trades."""

    name: str
    account: EquityCurve
    performance: Performance
    trades: pd.DataFrame
    """One row per trade; empty for buy and hold, which is one trade per instrument."""
    turnover: float
    """Value traded per year, entries and exits, over the capital."""
    break_even_cost: float
    """Cost per side, in basis points, at which the mean trade earns nothing; NaN without trades."""

    @property
    def entries(self) -> int:
        """Number of trades."""
        return len(self.trades)

    @property
    def hit_rate(self) -> float:
        """Share of trades with a gain after costs; NaN without trades."""
        return float((self.trades["net"] > 0).mean()) if self.entries else float("nan")

    @property
    def mean_win(self) -> float:
        """Mean net return of the winning trades; NaN without any."""
        return self._mean(won=True)

    @property
    def mean_loss(self) -> float:
        """Mean net return of the losing trades; NaN without any."""
        return self._mean(won=False)

    def _mean(self, *, won: bool) -> float:
        if not self.entries:
            return float("nan")
        net = self.trades["net"].to_numpy(np.float64)
        selected = net[(net > 0) == won]
        return float(selected.mean()) if len(selected) else float("nan")

    def numbers(self) -> dict[str, float]:
        """Return all measures under the names of logs and CSV files."""
        performance = self.performance
        return {
            "total_return": performance.total,
            "annual_return": performance.annual,
            "volatility": performance.volatility,
            "sharpe": performance.sharpe,
            "sharpe_low": performance.low,
            "sharpe_high": performance.high,
            "probabilistic_sharpe": performance.probabilistic_sharpe,
            "max_drawdown": performance.drawdown,
            "exposure": performance.exposure,
            "turnover": self.turnover,
            "trades": float(self.entries),
            "hit_rate": self.hit_rate,
            "mean_win": self.mean_win,
            "mean_loss": self.mean_loss,
            "break_even_cost_bp": self.break_even_cost,
        }


def market_of(bars: Mapping[str, pd.DataFrame], rows: pd.DataFrame, target: TargetSpec) -> BacktestMarket:
    """Align rows with sessions; `InputError` if the bars lack a predicted day or the days that its trade needs."""
    traded, positions = [], {}
    for symbol, part in rows.reset_index(drop=True).groupby("symbol", sort=True):
        frame = bars[str(symbol)]
        sessions = frame.index.get_indexer(pd.DatetimeIndex(part["date"]))
        complete = sessions.min() >= 0 and sessions.max() + target.horizon < len(frame)
        fix = "its bars do not hold all predicted days and those of their trades; the snapshot is another one."
        require(bool(complete), "SYMBOL", symbol, fix)
        first, last = int(sessions.min()), int(sessions.max())
        traded.append(outcomes(str(symbol), frame.iloc[first : last + target.horizon + 1], target))
        positions[str(symbol)] = (part.index.to_numpy(np.int64), (sessions - first).astype(np.int64))
    return BacktestMarket(traded=traded, positions=positions)


def bearable_cost(trades: pd.DataFrame) -> float:
    """Return the cost per side at which the mean trade earns nothing; NaN without trades.

    With x the mean exit over entry price and g the mean gross return: (1 - c) (1 + g - c x) = 1.
    """
    if trades.empty:
        return float("nan")
    x, g = float((trades["exit"] / trades["entry"]).mean()), float(trades["gross"].mean())
    half = (1 + g + x) / (2 * x)
    return float(half - np.sqrt(half**2 - g / x))


def strategy_of(name: str, data: BacktestInput, market: BacktestMarket, chosen: Mask, cost: float) -> Strategy:
    """Return the strategy that enters the chosen rows; `cost` is a share per side."""
    equity = account(market.traded, market.enters(chosen), cost)
    trades = _trades(data, market, chosen, cost)
    tranches = data.target.horizon * len(market.traded)
    return Strategy(
        name=name,
        account=equity,
        performance=performance(equity, data.target.horizon),
        trades=trades,
        turnover=2 * len(trades) / tranches * equity.year / len(equity.returns),
        break_even_cost=1e4 * bearable_cost(trades),
    )


def holding(market: BacktestMarket, cost: float) -> Strategy:
    """Return buy and hold as a strategy of one trade."""
    equity = buy_and_hold(market.traded, cost)
    return Strategy(
        name=HOLD,
        account=equity,
        performance=performance(equity, 1),
        trades=pd.DataFrame(),
        turnover=2 * equity.year / len(equity.returns),
        break_even_cost=float("nan"),
    )


def _trades(data: BacktestInput, market: BacktestMarket, chosen: Mask, cost: float) -> pd.DataFrame:
    """Return one row per entered trade, by day and instrument."""
    probabilities = data.rows["probability"].to_numpy(np.float64)
    parts = []
    for trades in market.traded:
        rows, sessions = market.positions[trades.symbol]
        at, row = sessions[chosen[rows]], rows[chosen[rows]]
        columns = {
            "symbol": trades.symbol,
            "entered": trades.days[at],
            "exited": trades.days[at + trades.held[at]],
            "sessions": trades.held[at],
            "model_probability": probabilities[row],
            "label": trades.labels[at].astype(int),
            "entry": trades.entry[at],
            "exit": trades.exit[at],
            "gross": trades.gross[at],
            "net": trades.net(cost)[at],
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True).sort_values(["entered", "symbol"], ignore_index=True)
