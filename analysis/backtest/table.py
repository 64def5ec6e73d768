"""A reading in words and as a table: what was traded, at which costs, and what may be concluded."""

from __future__ import annotations

from rich.table import Table

from analysis.backtest.predictions import LOGISTIC, VOLATILITY, BacktestInput
from analysis.backtest.results import MODEL, BacktestResult, as_many
from analysis.backtest.strategies import HOLD, Strategy
from research.cli.console import plain_table
from research.evaluation.forecast_tests import PairTest
from research.tracking import schema

COLUMNS = ("total", "a year", "volatility", "Sharpe", "95%", "PSR", "drawdown", "exposure", "turnover", "trades", "hits")
FEW_TRADES = 30
"""With fewer a result that is inside the noise says nothing about the signal."""

ALIKE = 0.5
"""With a lower rank correlation a forecast is something else than volatility, though it may earn no more."""

LEGEND = (
    "as many entries: the rows on which it says most, as many as the model enters (its cut is known afterwards only). every "
    "session: the same trade without a forecast.",
    "95%: stationary bootstrap, 2,000 draws. PSR: probability that the true Sharpe ratio is above 0. Distances: paired by day, "
    "95%; a verdict needs the block bootstrap and Diebold-Mariano both. exposure: capital in a position. turnover: value "
    "traded a year over capital.",
)


def validation_warning(subject: BacktestInput) -> str:
    """How far the days can be believed; the first thing that is said."""
    run = subject.run
    if subject.split == "validation":
        n = len(subject.trials)
        chosen = "not chosen on these days, which chose among" if run.kind == "baseline" else "chosen on these very days among"
        return (
            f"IN-SAMPLE, validation days: {run.name} was {chosen} {n} trials. This flatters and promises nothing; "
            "make train and make evaluate open days that chose nothing."
        )
    before = int(run.tags.get(schema.LOOKS_BEFORE, "0"))
    looks = f"; {before} evaluations had opened them before: to pick among several is a choice, no test" if before else ""
    return f"test days: nothing was chosen on them{looks}."


def describe_trade(subject: BacktestInput) -> str:
    """What is bought and sold."""
    target, h = subject.target, subject.target.horizon
    sessions = "1 session" if h == 1 else f"{h} sessions"
    limit = "at that close" if target.touch == "close" else "at the limit, or at an open beyond it"
    move, last = f"{target.threshold * 100:g}%", f"at the close after {sessions}"
    out = {
        "threshold": f"sell when the {target.touch} reaches +{move} ({limit}), else {last}",
        "downside": f"buy back when the {target.touch} reaches -{move} ({limit}), else {last}",
        "end": f"sell {last}",
        "direction": f"sell {last}",
    }[target.kind]
    side = "sell short" if target.kind == "downside" else "buy"
    tranches = f" Capital in {h} equal tranches, one for each of {h} overlapping trades." if h > 1 else ""
    n = len(subject.bars)
    parts = f" Equal parts for {n} instruments." if n > 1 else ""
    free = "Cash earns 0, borrowed shares cost 0." if target.kind == "downside" else "Cash earns 0."
    return f"{side} at the close where the probability reaches the threshold; {out}.{tranches}{parts} {free}"


def describe_run(reading: BacktestResult) -> str:
    """Which run, days and bars."""
    subject, days = reading.subject, reading.strategies[MODEL].account.days
    symbols = ", ".join(subject.bars)
    return f"{subject.title} on {symbols}, {days[0]:%Y-%m-%d} .. {days[-1]:%Y-%m-%d}, {len(subject.rows):,} predictions"


def assumptions(reading: BacktestResult, cost: float, slippage: float) -> str:
    """Costs and threshold."""
    return (
        f"costs {cost:g} bp and slippage {slippage:g} bp of the traded value, at entry and exit each; "
        f"enters at a probability of {reading.threshold:.3f}: {reading.rule}."
    )


def backtest_table(reading: BacktestResult) -> Table:
    """One row per strategy."""
    table = plain_table("", ["strategy", *COLUMNS])
    table.title, table.columns[0].justify = None, "left"
    for name, one in reading.strategies.items():
        table.add_row(name, *_cells(one), style="bold" if name == MODEL else "")
    return table


def _cells(one: Strategy) -> list[str]:
    found = one.performance
    moved = found.sharpe == found.sharpe
    return [
        f"{found.total:+.1%}",
        f"{found.annual:+.1%}",
        f"{found.volatility:.1%}",
        f"{found.sharpe:+.2f}" if moved else "-",
        f"[{found.low:+.2f}, {found.high:+.2f}]" if moved else "-",
        f"{found.probabilistic_sharpe:.2f}" if moved else "-",
        f"{found.drawdown:.1%}",
        f"{found.exposure:.0%}",
        f"{one.turnover:.0f}x",
        f"{one.entries:,}" if one.name != HOLD else "-",
        f"{one.hit_rate:.0%}" if one.entries else "-",
    ]


def backtest_sentences(reading: BacktestResult) -> list[str]:
    """What may be concluded, a sentence each."""
    if not reading.strategies[MODEL].entries:
        return [f"no probability reaches {reading.threshold:.3f}: nothing is traded at these costs, nothing can be concluded."]
    return [
        _the_trades(reading),
        _the_sharpe(reading),
        _against_volatility(reading),
        *_against_logistic(reading),
        _against_holding(reading),
    ]


def _the_trades(reading: BacktestResult) -> str:
    one, paid = reading.strategies[MODEL], reading.cost * 1e4
    win, loss = (f"{mean:+.2%}" if mean == mean else "none" for mean in (one.mean_win, one.mean_loss))
    return (
        f"mean win {win}, mean loss {loss}; the mean trade breaks even at {one.break_even_cost:.1f} bp a side, "
        f"{'above' if one.break_even_cost > paid else 'below'} the {paid:g} bp that were taken."
    )


def _the_sharpe(reading: BacktestResult) -> str:
    found = reading.strategies[MODEL].performance
    surely = "above 0" if found.low > 0 else "below 0" if found.high < 0 else "not distinguishable from 0"
    told = f"Sharpe ratio {found.sharpe:+.2f}, {surely}."
    if reading.trials_read < 2:
        return f"{told} Not deflated: the Sharpe ratios of the other trials are not known."
    some = f" (spread of {reading.trials_read} of them)" if reading.trials_read < reading.trials else ""
    why = "" if reading.subject.split == "validation" else "; strict, as these days chose none of them"
    return (
        f"{told} Deflated: {reading.deflated:.2f}, the probability that the true one exceeds what the best of "
        f"{reading.trials} trials without skill would show{some}{why}."
    )


def _against_volatility(reading: BacktestResult) -> str:
    if as_many(VOLATILITY) not in reading.against:
        return "no volatility regression on these rows: whether the signal is more than volatility cannot be said."
    found = reading.against[as_many(VOLATILITY)]
    told = (
        f"{_distance(found)} against the volatility regression with as many entries; rank correlation of the probabilities "
        f"{reading.alike[VOLATILITY]:.2f}, {reading.shared[VOLATILITY]:.0%} of the entries in common."
    )
    few = reading.strategies[MODEL].entries
    if reading.shared[VOLATILITY] == 1:
        return f"it enters as the volatility regression does; these entries cannot tell the two signals apart: {told}"
    if not found.is_significant and few < FEW_TRADES:
        return f"{few} trades are too few to tell the signal from one volatility number: {told}"
    if not found.is_significant:
        # Chance alone earns no more either, and is no volatility.
        only = "VOLATILITY ONLY" if reading.alike[VOLATILITY] >= ALIKE else "NO MORE THAN VOLATILITY, which it does not follow"
        return (
            f"{only}: its daily results cannot be told from those of one volatility number. {told} "
            f"A true distance of {1e4 * found.detectable:.1f} bp a day would be seen in 4 of 5 studies."
        )
    return f"{'better' if found.difference.mean > 0 else 'worse'} than one volatility number: {told}"


def _against_logistic(reading: BacktestResult) -> list[str]:
    found = reading.against.get(as_many(LOGISTIC))
    if found is None:
        return []
    verdict = "inside the noise" if not found.is_significant else "better" if found.difference.mean > 0 else "worse"
    return [f"{_distance(found)} against the logistic regression with as many entries: {verdict}."]


def _against_holding(reading: BacktestResult) -> str:
    found = reading.against[HOLD]
    told = f"{_distance(found)}, with {reading.strategies[MODEL].performance.exposure:.0%} of its exposure."
    if not found.is_significant:
        return f"it does not beat buy-and-hold beyond the noise: {told}"
    return f"it {'beats' if found.difference.mean > 0 else 'earns less than'} buy-and-hold: {told}"


def _distance(found: PairTest) -> str:
    mean, low, high = (1e4 * value for value in (found.difference.mean, found.difference.low, found.difference.high))
    return f"{mean:+.2f} bp a day [{low:+.2f}, {high:+.2f}]"
