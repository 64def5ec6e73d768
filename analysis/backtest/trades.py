"""The trade that a label describes, entered at every close, and the account that enters some of them.

Shapes: n sessions on which a trade may begin, h sessions of the horizon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from research.spec import TargetSpec

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

YEAR = 252
"""Sessions per year of an exchange that closes at weekends."""
RUINED = 1e-12
"""Value of a short position whose price has doubled: not 0, so that returns stay defined."""


@dataclass(frozen=True, kw_only=True)
class TradeOutcomes:
    """Outcomes of one instrument's trades, one from the close of each session."""

    symbol: str
    days: pd.DatetimeIndex
    """[n + h]: sessions, from the first entry to the last possible exit."""
    side: int
    """1 buys first, -1 sells first."""
    entry: Array
    """[n]: close of the session."""
    exit: Array
    """[n]: price of the fill."""
    held: NDArray[np.int64]
    """[n]: sessions from entry to exit."""
    labels: Mask
    """[n]: labels recomputed from the bars."""
    closes: Array
    """[n + h]: close of every session."""
    prices: Array
    """[n, h]: close of each session after the entry; the exit's price from the exit on."""

    @property
    def horizon(self) -> int:
        """Sessions after which every trade is closed."""
        return int(self.prices.shape[1])

    @cached_property
    def gross(self) -> Array:
        """[n]: return before costs."""
        return np.asarray(self.side * (self.exit / self.entry - 1))

    def net(self, cost: float) -> Array:
        """Return the returns after costs, [n]; `cost` is a share per side."""
        return np.asarray(self._values(cost)[:, -1] - 1)

    def growth(self, cost: float) -> Array:
        """Return the growth of the position at each close over the close before, [n, h]; the first holds the entry's cost."""
        values = self._values(cost)
        return np.asarray(values / np.column_stack([np.ones(len(values)), values[:, :-1]]))

    @cached_property
    def is_held(self) -> Mask:
        """[n, h]: whether the position is held during each session after the entry."""
        return np.arange(self.horizon) < self.held[:, None]

    def _values(self, cost: float) -> Array:
        """Return the value of one unit less the entry's cost, marked to the close, less the cost of the exit, [n, h]."""
        ratio = self.prices / self.entry[:, None]
        is_closed = np.arange(self.horizon) >= self.held[:, None] - 1
        return np.maximum((1 - cost) * (1 + self.side * (ratio - 1) - cost * ratio * is_closed), RUINED)


def outcomes(symbol: str, bars: pd.DataFrame, target: TargetSpec) -> TradeOutcomes:
    """Return the trade of every session whose horizon lies within the bars.

    threshold, downside   closed when the price reaches the limit, close[t] * (1 +- threshold), else at close[t+h]: with
                          touch=high or low at the limit's price, or at the open of a session that opens beyond it; with
                          touch=close at the close that reached it
    end, direction        closed at close[t+h]
    """
    h = target.horizon
    close, opened, watched = (bars[name].to_numpy(np.float64) for name in ("close", "open", target.touch))
    side = -1 if target.kind == "downside" else 1
    entry = close[:-h]
    limit = entry * (1 + side * target.threshold)
    closes_NH, opens_NH, watched_NH = (sliding_window_view(prices[1:], h) for prices in (close, opened, watched))
    if target.kind in ("threshold", "downside"):
        reached_NH = side * watched_NH >= side * limit[:, None]
        labels = reached_NH.any(axis=1)
    else:
        reached_NH = np.zeros(closes_NH.shape, dtype=bool)
        labels = closes_NH[:, -1] >= limit if target.kind == "end" else closes_NH[:, -1] > entry
    is_out = reached_NH.any(axis=1)
    last = np.where(is_out, reached_NH.argmax(axis=1), h - 1)
    rows = np.arange(len(entry))
    beyond = side * np.maximum(side * limit, side * opens_NH[rows, last])
    exit_price = np.where(is_out & (target.touch != "close"), beyond, closes_NH[rows, last])
    return TradeOutcomes(
        symbol=symbol,
        days=pd.DatetimeIndex(bars.index),
        side=side,
        entry=entry,
        exit=exit_price,
        held=last + 1,
        labels=np.asarray(labels),
        closes=close,
        prices=np.where(np.arange(h) >= last[:, None], exit_price[:, None], closes_NH),
    )


@dataclass(frozen=True, kw_only=True)
class EquityCurve:
    """One unit of capital over the days, marked to each close."""

    days: pd.DatetimeIndex
    equity: Array
    """1 at the close of the first day."""
    exposure: float
    """Mean share of the capital in a position."""

    @cached_property
    def returns(self) -> Array:
        """Daily returns, one per day after the first."""
        return np.asarray(self.equity[1:] / self.equity[:-1] - 1)

    @cached_property
    def year(self) -> float:
        """Sessions per year; counted if some are at weekends."""
        if (self.days.dayofweek < 5).all():
            return YEAR
        return 365.25 * (len(self.days) - 1) / (self.days[-1] - self.days[0]).days


def account(traded: Sequence[TradeOutcomes], enters: Mapping[str, Mask], cost: float) -> EquityCurve:
    """Return the equity of capital in equal parts by instrument, each in h equal tranches (Jegadeesh & Titman 1993).

    A tranche may enter every h-th session with all its capital, when its last trade is certainly closed. Capital does not
    move between tranches. Capital outside a trade earns nothing.
    """
    parts, exposures = [], []
    for trades in traded:
        chosen_N1 = enters[trades.symbol][:, None]
        growth_NH, is_held_NH = np.where(chosen_N1, trades.growth(cost), 1.0), chosen_N1 & trades.is_held
        wealth = np.mean([np.cumprod(_tranche(growth_NH, start)) for start in range(trades.horizon)], axis=0)
        parts.append(pd.Series(np.append(1.0, wealth), index=trades.days))
        exposures.append(is_held_NH.sum() / (trades.horizon * len(wealth)))
    return _combined(parts, float(np.mean(exposures)))


def buy_and_hold(traded: Sequence[TradeOutcomes], cost: float) -> EquityCurve:
    """Return the equity of buying and holding equal parts over the same days, with the costs of one entry and one exit."""
    parts = []
    for trades in traded:
        wealth = (1 - cost) * trades.closes / trades.closes[0]
        wealth[0], wealth[-1] = 1.0, wealth[-1] * (1 - cost)
        parts.append(pd.Series(wealth, index=trades.days))
    return _combined(parts, 1.0)


def _tranche(growth_NH: Array, start: int) -> Array:
    """Return the daily growth after the first day of the tranche that enters sessions start, start + h, start + 2h ..."""
    n, h = growth_NH.shape
    daily_growth = np.ones(n + h - 1)
    entered = growth_NH[start::h].reshape(-1)
    daily_growth[start : start + len(entered)] = entered
    return daily_growth


def _combined(parts: Sequence[pd.Series[float]], exposure: float) -> EquityCurve:
    table = pd.concat(parts, axis=1).sort_index().ffill().fillna(1.0)
    return EquityCurve(days=pd.DatetimeIndex(table.index), equity=table.mean(axis=1).to_numpy(np.float64), exposure=exposure)
