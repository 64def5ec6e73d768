"""Ways of choosing entries, laid on the sessions of their instruments, and what came of each."""

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
    """The rows of the predictions laid on the sessions of their instruments."""

    traded: list[TradeOutcomes]
    """Per instrument, from its first predicted session to its last."""
    places: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    """Instrument -> its rows, and the session of each."""

    def enters(self, chosen: Mask) -> dict[str, Mask]:
        """Instrument -> whether to enter at each of its sessions, from whether to enter at each row."""
        found = {}
        for one in self.traded:
            rows, sessions = self.places[one.symbol]
            found[one.symbol] = np.zeros(len(one.entry), dtype=bool)
            found[one.symbol][sessions] = chosen[rows]
        return found


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One way of choosing entries, and what came of it."""

    name: str
    account: EquityCurve
    performance: Performance
    trades: pd.DataFrame
    """One row per trade; empty for buy and hold, which is one trade per instrument."""
    turnover: float
    """Value traded in a year, entries and exits, over the capital."""
    break_even_cost: float
    """Cost per side, in basis points, at which the mean trade earns nothing; NaN without trades."""

    @property
    def entries(self) -> int:
        """How many trades."""
        return len(self.trades)

    @property
    def hit_rate(self) -> float:
        """Share of trades that earned something after costs; NaN without trades."""
        return float((self.trades["net"] > 0).mean()) if self.entries else float("nan")

    @property
    def mean_win(self) -> float:
        """Mean net return of those; NaN without any."""
        return self._mean(won=True)

    @property
    def mean_loss(self) -> float:
        """Mean net return of the others; NaN without any."""
        return self._mean(won=False)

    def _mean(self, *, won: bool) -> float:
        if not self.entries:
            return float("nan")
        net = self.trades["net"].to_numpy(np.float64)
        mine = net[(net > 0) == won]
        return float(mine.mean()) if len(mine) else float("nan")

    def numbers(self) -> dict[str, float]:
        """All measures, as they are logged and written."""
        found = self.performance
        return {
            "total_return": found.total,
            "annual_return": found.annual,
            "volatility": found.volatility,
            "sharpe": found.sharpe,
            "sharpe_low": found.low,
            "sharpe_high": found.high,
            "probabilistic_sharpe": found.probabilistic_sharpe,
            "max_drawdown": found.drawdown,
            "exposure": found.exposure,
            "turnover": self.turnover,
            "trades": float(self.entries),
            "hit_rate": self.hit_rate,
            "mean_win": self.mean_win,
            "mean_loss": self.mean_loss,
            "break_even_cost_bp": self.break_even_cost,
        }


def market_of(bars: Mapping[str, pd.DataFrame], rows: pd.DataFrame, target: TargetSpec) -> BacktestMarket:
    """Rows on sessions; `InputError` where the bars lack a predicted day or the days that its trade needs."""
    traded, places = [], {}
    for symbol, part in rows.reset_index(drop=True).groupby("symbol", sort=True):
        frame = bars[str(symbol)]
        sessions = frame.index.get_indexer(pd.DatetimeIndex(part["date"]))
        complete = sessions.min() >= 0 and sessions.max() + target.horizon < len(frame)
        fix = "its bars do not hold all predicted days and those of their trades; the snapshot is another one."
        require(bool(complete), "SYMBOL", symbol, fix)
        first, last = int(sessions.min()), int(sessions.max())
        traded.append(outcomes(str(symbol), frame.iloc[first : last + target.horizon + 1], target))
        places[str(symbol)] = (part.index.to_numpy(np.int64), (sessions - first).astype(np.int64))
    return BacktestMarket(traded=traded, places=places)


def bearable_cost(trades: pd.DataFrame) -> float:
    """Cost per side at which the mean trade earns nothing; NaN without trades.

    With x the mean exit over entry price and g the mean gross return: (1 - c) (1 + g - c x) = 1.
    """
    if trades.empty:
        return float("nan")
    x, g = float((trades["exit"] / trades["entry"]).mean()), float(trades["gross"].mean())
    half = (1 + g + x) / (2 * x)
    return float(half - np.sqrt(half**2 - g / x))


def strategy_of(name: str, subject: BacktestInput, market: BacktestMarket, chosen: Mask, cost: float) -> Strategy:
    """What entering the chosen rows gives."""
    enters = market.enters(chosen)
    found = account(market.traded, enters, cost)
    trades = _trades(subject, market, chosen, cost)
    tranches = subject.target.horizon * len(market.traded)
    return Strategy(
        name=name,
        account=found,
        performance=performance(found, subject.target.horizon),
        trades=trades,
        turnover=_yearly(found, 2 * len(trades) / tranches),
        break_even_cost=1e4 * bearable_cost(trades),
    )


def holding(market: BacktestMarket, cost: float) -> Strategy:
    """Buy and hold as a strategy of one trade."""
    found = buy_and_hold(market.traded, cost)
    return Strategy(
        name=HOLD,
        account=found,
        performance=performance(found, 1),
        trades=pd.DataFrame(),
        turnover=_yearly(found, 2.0),
        break_even_cost=float("nan"),
    )


def _yearly(found: EquityCurve, value: float) -> float:
    return value * found.year / len(found.returns)


def _trades(subject: BacktestInput, market: BacktestMarket, chosen: Mask, cost: float) -> pd.DataFrame:
    probabilities = subject.rows["probability"].to_numpy(np.float64)
    parts = []
    for one in market.traded:
        rows, sessions = market.places[one.symbol]
        at, row = sessions[chosen[rows]], rows[chosen[rows]]
        columns = {
            "symbol": one.symbol,
            "entered": one.days[at],
            "exited": one.days[at + one.held[at]],
            "sessions": one.held[at],
            "model_probability": probabilities[row],
            "label": one.labels[at].astype(int),
            "entry": one.entry[at],
            "exit": one.exit[at],
            "gross": one.gross[at],
            "net": one.net(cost)[at],
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True).sort_values(["entered", "symbol"], ignore_index=True)
