"""The trade that a label describes, entered at every close, and the account of those who enter some of them.

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
"""Sessions in a year of an exchange that closes at weekends."""
RUINED = 1e-12
"""What is left of a short whose price has doubled; not 0, by which nothing could be divided."""


@dataclass(frozen=True, kw_only=True)
class TradeOutcomes:
    """What the trade gives that begins at the close of each session of one instrument."""

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
    """[n]: what the label says, the bars' answer to the question."""
    closes: Array
    """[n + h]: close of every session."""
    prices: Array
    """[n, h]: close of each session after the entry; the exit's price from the exit on."""

    @property
    def horizon(self) -> int:
        """Sessions after which every trade is over."""
        return int(self.prices.shape[1])

    @cached_property
    def gross(self) -> Array:
        """Return without costs."""
        return np.asarray(self.side * (self.exit / self.entry - 1))

    def net(self, cost: float) -> Array:
        """Return after costs."""
        return np.asarray(self._values(cost)[:, -1] - 1)

    def growth(self, cost: float) -> Array:
        """Value of what was put in, at each close over that of the close before; the entry's cost is in the first."""
        values = self._values(cost)
        return np.asarray(values / np.column_stack([np.ones(len(values)), values[:, :-1]]))

    @cached_property
    def is_held(self) -> Mask:
        """Whether a position is held during each session after the entry."""
        return np.arange(self.horizon) < self.held[:, None]

    def _values(self, cost: float) -> Array:
        """One unit, less the entry's cost, marked to the close; less the cost of the value traded at the exit."""
        ratio = self.prices / self.entry[:, None]
        over = np.arange(self.horizon) >= self.held[:, None] - 1
        return np.maximum((1 - cost) * (1 + self.side * (ratio - 1) - cost * ratio * over), RUINED)


def outcomes(symbol: str, bars: pd.DataFrame, target: TargetSpec) -> TradeOutcomes:
    """The trade of every session whose horizon lies within the bars.

    threshold, downside   closed where the price reaches the limit, close[t] * (1 +- threshold), else at close[t+h]: with
                          touch=high or low at the limit's price, at the open of a session that opens beyond it; with
                          touch=close at that close, by which alone it is known
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
    out = np.where(is_out & (target.touch != "close"), beyond, closes_NH[rows, last])
    return TradeOutcomes(
        symbol=symbol,
        days=pd.DatetimeIndex(bars.index),
        side=side,
        entry=entry,
        exit=out,
        held=last + 1,
        labels=np.asarray(labels),
        closes=close,
        prices=np.where(np.arange(h) >= last[:, None], out[:, None], closes_NH),
    )


@dataclass(frozen=True, kw_only=True)
class EquityCurve:
    """One unit of capital over the days, marked to each close."""

    days: pd.DatetimeIndex
    equity: Array
    """1 at the close of the first day."""
    exposure: float
    """Share of the capital that was in a position, mean over the days."""

    @cached_property
    def returns(self) -> Array:
        """One per day after the first."""
        return np.asarray(self.equity[1:] / self.equity[:-1] - 1)

    @cached_property
    def year(self) -> float:
        """Sessions in a year; counted where some are at weekends."""
        if (self.days.dayofweek < 5).all():
            return YEAR
        return 365.25 * (len(self.days) - 1) / (self.days[-1] - self.days[0]).days


def account(traded: Sequence[TradeOutcomes], enters: Mapping[str, Mask], cost: float) -> EquityCurve:
    """Capital in equal parts by instrument, each in h equal tranches (Jegadeesh & Titman 1993).

    A tranche may enter every h-th session, when its last trade is certainly over, with all it has; nothing moves between
    tranches afterwards. Capital that is in no trade earns nothing.
    """
    parts, exposures = [], []
    for one in traded:
        chosen_N1 = enters[one.symbol][:, None]
        growth_NH, is_held_NH = np.where(chosen_N1, one.growth(cost), 1.0), chosen_N1 & one.is_held
        wealth = np.mean([np.cumprod(_tranche(growth_NH, start)) for start in range(one.horizon)], axis=0)
        parts.append(pd.Series(np.append(1.0, wealth), index=one.days))
        exposures.append(is_held_NH.sum() / (one.horizon * len(wealth)))
    return _together(parts, float(np.mean(exposures)))


def buy_and_hold(traded: Sequence[TradeOutcomes], cost: float) -> EquityCurve:
    """Buy and hold over the same days, in equal parts, with the costs of one entry and one exit."""
    parts = []
    for one in traded:
        wealth = (1 - cost) * one.closes / one.closes[0]
        wealth[0], wealth[-1] = 1.0, wealth[-1] * (1 - cost)
        parts.append(pd.Series(wealth, index=one.days))
    return _together(parts, 1.0)


def _tranche(growth_NH: Array, start: int) -> Array:
    """Growth of each day after the first, of the tranche that enters sessions start, start + h, start + 2h ..."""
    n, h = growth_NH.shape
    days = np.ones(n + h - 1)
    mine = growth_NH[start::h].reshape(-1)
    days[start : start + len(mine)] = mine
    return days


def _together(parts: Sequence[pd.Series[float]], exposure: float) -> EquityCurve:
    table = pd.concat(parts, axis=1).sort_index().ffill().fillna(1.0)
    return EquityCurve(days=pd.DatetimeIndex(table.index), equity=table.mean(axis=1).to_numpy(np.float64), exposure=exposure)
