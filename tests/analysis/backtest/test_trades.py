"""Trades and accounts that can be followed by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from analysis.backtest.trades import TradeOutcomes, account, buy_and_hold, outcomes
from research.spec import TargetSpec
from research.task.targets import label
from tests.conftest import random_bars

Bar = tuple[float, float, float, float]
COST = 0.001
QUESTIONS = [("threshold", "high"), ("threshold", "close"), ("downside", "low"), ("downside", "close")]
CALM: Bar = (100, 100.5, 99.5, 100)


def bars(*rows: Bar) -> pd.DataFrame:
    """Open, high, low, close of consecutive days."""
    index = pd.bdate_range("2012-01-02", periods=len(rows), name="date")
    return pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=index, dtype=np.float64)


def traded(*rows: Bar, horizon: int = 1, **question: object) -> TradeOutcomes:
    return outcomes("X", bars(*rows), TargetSpec(horizon=horizon, **question))  # type: ignore[arg-type]


def entering(one: TradeOutcomes, sessions: Sequence[int]) -> dict[str, np.ndarray]:
    return {one.symbol: np.isin(np.arange(len(one.entry)), sessions)}


@pytest.mark.parametrize(
    ("after", "fill", "said"),
    [
        ((100, 100.9, 99, 99.2), 99.2, False),  # not reached: the close
        ((100, 101.0, 99, 99.2), 101.0, True),  # reached to the cent: the limit
        ((100, 103.0, 99, 99.2), 101.0, True),  # the high is no price that a limit order gets
        ((102, 103.0, 101.5, 102.5), 102.0, True),  # opens above the limit: the open
    ],
)
def test_a_limit_is_filled_at_its_price_or_at_a_better_open(after: Bar, fill: float, said: bool) -> None:
    one = traded(CALM, after)
    assert one.exit.tolist() == [pytest.approx(fill)]
    assert one.labels.tolist() == [said]


def test_the_first_day_that_reaches_the_limit_ends_the_trade() -> None:
    one = traded(CALM, CALM, (100, 102, 100, 100.5), (105, 106, 104, 105), horizon=3)
    assert (one.exit[0], one.held[0]) == (pytest.approx(101), 2)
    assert one.prices[0].tolist() == pytest.approx([100, 101, 101])


def test_a_close_that_is_watched_is_the_price_as_well() -> None:
    one = traded(CALM, (100, 104, 99, 100.5), (100, 104, 99, 103), horizon=2, touch="close")
    assert (one.exit[0], one.held[0]) == (103, 2)


@pytest.mark.parametrize(
    ("after", "fill"), [((100, 101, 98, 100.5), 99), ((97, 98, 96, 97.5), 97), ((100, 103, 99.5, 102), 102)]
)
def test_a_downside_is_sold_first_and_bought_back(after: Bar, fill: float) -> None:
    one = traded(CALM, after, kind="downside")
    assert one.exit[0] == pytest.approx(fill)
    assert one.gross[0] == pytest.approx(1 - fill / 100)
    # Costs are of the money put in, then of the shares bought back.
    assert one.net(COST)[0] == pytest.approx((1 - COST) * (2 - fill / 100 - COST * fill / 100) - 1)


@pytest.mark.parametrize("kind", ["end", "direction"])
def test_what_ends_with_the_horizon_is_sold_at_its_close(kind: str) -> None:
    one = traded(CALM, (100, 120, 90, 95), (95, 120, 90, 107), horizon=2, kind=kind)
    assert (one.exit[0], one.held[0], one.labels[0]) == (107, 2, True)


@pytest.mark.parametrize("horizon", [1, 4])
@pytest.mark.parametrize(
    ("kind", "touch"),
    [
        ("threshold", "high"),
        ("threshold", "close"),
        ("downside", "low"),
        ("downside", "close"),
        ("end", "auto"),
        ("direction", "auto"),
    ],
)
def test_a_trade_wins_its_label_exactly_where_the_label_is_one(kind: str, touch: str, horizon: int) -> None:
    market = random_bars(3, 300)
    target = TargetSpec(horizon=horizon, kind=kind, touch=touch)  # type: ignore[arg-type]
    one = outcomes("X", market, target)
    said = label(market, target).labels[:-horizon] == 1
    assert (one.labels == said).all()
    assert (one.gross[said] >= target.threshold - 1e-12).all()
    assert 0 < said.mean() < 1


def test_costs_are_paid_at_both_ends() -> None:
    one = traded(CALM, (100, 101, 99, 100))
    assert one.net(COST)[0] == pytest.approx((1 - COST) ** 2 * 1.01 - 1)
    assert one.gross[0] == pytest.approx(0.01)


def test_overlapping_trades_share_the_capital() -> None:
    """Horizon 2: half of the capital enters on sessions 0 and 2, the other half on session 1."""
    one = traded((1, 1, 1, 100), (1, 1, 1, 110), (1, 1, 1, 99), (1, 1, 1, 132), (1, 1, 1, 99), horizon=2, kind="direction")
    found = account([one], entering(one, [0, 1]), 0.0)
    assert found.equity.tolist() == pytest.approx([1, (1.1 + 1) / 2, (0.99 + 0.9) / 2, (0.99 + 1.2) / 2, (0.99 + 1.2) / 2])
    # Four of the eight tranche-days.
    assert found.exposure == pytest.approx(4 / 8)
    again = account([one], entering(one, [0, 2]), 0.0)
    assert again.equity.tolist() == pytest.approx([1, 1.05, 0.995, (0.99 * 132 / 99 + 1) / 2, 0.995])


def test_a_trade_that_ended_early_leaves_cash_until_the_next_turn() -> None:
    one = traded(CALM, (100, 102, 100, 100), (150, 160, 140, 150), CALM, horizon=2)
    found = account([one], entering(one, [0]), 0.0)
    assert found.equity.tolist() == pytest.approx([1, 1.005, 1.005, 1.005])
    assert found.exposure == pytest.approx(1 / 6)


def test_the_account_of_one_tranche_is_the_product_of_its_trades() -> None:
    one = outcomes("X", random_bars(5, 200), TargetSpec(horizon=1))
    sessions = [3, 4, 50, 120]
    found = account([one], entering(one, sessions), COST)
    assert found.equity[-1] == pytest.approx(np.prod(1 + one.net(COST)[sessions]))
    assert account([one], entering(one, []), COST).returns.tolist() == [0.0] * (len(one.days) - 1)


def test_instruments_have_equal_parts_on_all_days_of_either() -> None:
    first = outcomes("A", bars(CALM, (1, 1, 1, 110), (1, 1, 1, 110)), TargetSpec(horizon=1, kind="direction"))
    later = bars(CALM, CALM, CALM, (1, 1, 1, 80)).iloc[2:]
    second = outcomes("B", later, TargetSpec(horizon=1, kind="direction"))
    found = account([first, second], {"A": np.array([True, False]), "B": np.array([True])}, 0.0)
    assert found.days.equals(pd.bdate_range("2012-01-02", periods=4))
    assert found.equity.tolist() == pytest.approx([1, 1.05, 1.05, 0.95])


def test_buying_and_holding_pays_once_at_each_end() -> None:
    one = traded(CALM, (1, 1, 1, 120), (1, 1, 1, 150))
    assert buy_and_hold([one], COST).equity.tolist() == pytest.approx([1, 1.2 * (1 - COST), 1.5 * (1 - COST) ** 2])


def test_a_short_cannot_lose_more_than_its_capital() -> None:
    one = traded(CALM, (300, 310, 290, 300), kind="downside")
    assert one.net(0.0)[0] == pytest.approx(-1)
    assert np.isfinite(account([one], entering(one, [0]), 0.0).returns).all()
