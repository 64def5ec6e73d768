"""A backtest in words and as a table: what was traded, at which costs, and what may be concluded."""

from __future__ import annotations

from rich.table import Table

from analysis.backtest.predictions import LOGISTIC, VOLATILITY, BacktestInput
from analysis.backtest.results import MODEL, BacktestResult, equal_entries
from analysis.backtest.strategies import HOLD, Strategy
from research.cli.console import plain_table
from research.evaluation.forecast_tests import PairTest
from research.tracking import schema

COLUMNS = ("total", "a year", "volatility", "Sharpe", "95%", "PSR", "drawdown", "exposure", "turnover", "trades", "hits")
FEW_TRADES = 30
"""Number of trades below which a result inside the noise is no evidence about the signal."""
MIN_CORRELATION = 0.5
"""Rank correlation below which a signal differs from volatility, though it may earn no more."""
LEGEND = (
    "equal entries: the baseline's highest-probability rows, as many as the model trades (cut-off chosen in hindsight). every "
    "session: the same trade without a forecast.",
    "95%: stationary bootstrap, 2,000 draws. PSR: probability that the true Sharpe ratio is above 0. Distances: paired by day, "
    "95%; a verdict needs both the block bootstrap and Diebold-Mariano. exposure: capital in a position. turnover: value "
    "traded a year over capital.",
)


def validation_warning(data: BacktestInput) -> str:
    """Return how far the days can be trusted; the first line of the output."""
    run = data.run
    if data.split == "validation":
        n = len(data.trials)
        chosen = "not chosen on these days, which chose among" if run.kind == "baseline" else "chosen on these very days among"
        return (
            f"IN-SAMPLE, validation days: {run.name} was {chosen} {n} trials. This flatters and promises nothing; "
            "make train and make evaluate open days that chose nothing."
        )
    before = int(run.tags.get(schema.LOOKS_BEFORE, "0"))
    accesses = f"; {before} earlier evaluations used them: choosing among several is a choice, not a test" if before else ""
    return f"test days: nothing was chosen on them{accesses}."


def describe_trade(data: BacktestInput) -> str:
    """Return what is bought and sold, and when."""
    target, h = data.target, data.target.horizon
    sessions = "1 session" if h == 1 else f"{h} sessions"
    limit = "at that close" if target.touch == "close" else "at the limit, or at an open beyond it"
    move, last = f"{target.threshold * 100:g}%", f"at the close after {sessions}"
    exit_rule = {
        "threshold": f"sell when the {target.touch} reaches +{move} ({limit}), else {last}",
        "downside": f"buy back when the {target.touch} reaches -{move} ({limit}), else {last}",
        "end": f"sell {last}",
        "direction": f"sell {last}",
    }[target.kind]
    side = "sell short" if target.kind == "downside" else "buy"
    tranches = f" Capital in {h} equal tranches, one for each of {h} overlapping trades." if h > 1 else ""
    n = len(data.bars)
    parts = f" Equal parts for {n} instruments." if n > 1 else ""
    free = "Cash earns 0, borrowed shares cost 0." if target.kind == "downside" else "Cash earns 0."
    return f"{side} at the close when the probability reaches the threshold; {exit_rule}.{tranches}{parts} {free}"


def describe_run(result: BacktestResult) -> str:
    """Return run, instruments, days and number of predictions."""
    data, days = result.data, result.strategies[MODEL].account.days
    symbols = ", ".join(data.bars)
    return f"{data.title} on {symbols}, {days[0]:%Y-%m-%d} .. {days[-1]:%Y-%m-%d}, {len(data.rows):,} predictions"


def assumptions(result: BacktestResult, cost: float, slippage: float) -> str:
    """Return costs and threshold."""
    return (
        f"costs {cost:g} bp and slippage {slippage:g} bp of the traded value, at entry and exit each; "
        f"enters at a probability of {result.threshold:.3f}: {result.rule}."
    )


def backtest_table(result: BacktestResult) -> Table:
    """Return one row per strategy."""
    table = plain_table("", ["strategy", *COLUMNS], left=["strategy"])
    for name, strategy in result.strategies.items():
        table.add_row(name, *_cells(strategy), style="bold" if name == MODEL else "")
    return table


def _cells(strategy: Strategy) -> list[str]:
    performance = strategy.performance
    moved = performance.sharpe == performance.sharpe
    return [
        f"{performance.total:+.1%}",
        f"{performance.annual:+.1%}",
        f"{performance.volatility:.1%}",
        f"{performance.sharpe:+.2f}" if moved else "-",
        f"[{performance.low:+.2f}, {performance.high:+.2f}]" if moved else "-",
        f"{performance.probabilistic_sharpe:.2f}" if moved else "-",
        f"{performance.drawdown:.1%}",
        f"{performance.exposure:.0%}",
        f"{strategy.turnover:.0f}x",
        f"{strategy.entries:,}" if strategy.name != HOLD else "-",
        f"{strategy.hit_rate:.0%}" if strategy.entries else "-",
    ]


def backtest_sentences(result: BacktestResult) -> list[str]:
    """Return one sentence per conclusion."""
    if not result.strategies[MODEL].entries:
        return [f"no probability reaches {result.threshold:.3f}: nothing is traded at these costs, nothing can be concluded."]
    return [
        _trades_sentence(result),
        _sharpe_sentence(result),
        _against_volatility(result),
        *_against_logistic(result),
        _against_holding(result),
    ]


def _trades_sentence(result: BacktestResult) -> str:
    model, paid = result.strategies[MODEL], result.cost * 1e4
    win, loss = (f"{mean:+.2%}" if mean == mean else "none" for mean in (model.mean_win, model.mean_loss))
    return (
        f"mean win {win}, mean loss {loss}; the mean trade breaks even at {model.break_even_cost:.1f} bp a side, "
        f"{'above' if model.break_even_cost > paid else 'below'} the {paid:g} bp that were charged."
    )


def _sharpe_sentence(result: BacktestResult) -> str:
    performance = result.strategies[MODEL].performance
    verdict = "above 0" if performance.low > 0 else "below 0" if performance.high < 0 else "not distinguishable from 0"
    sentence = f"Sharpe ratio {performance.sharpe:+.2f}, {verdict}."
    if result.trials_read < 2:
        return f"{sentence} Not deflated: the Sharpe ratios of the other trials are unknown."
    some = f" (spread of {result.trials_read} of them)" if result.trials_read < result.trials else ""
    strict = "" if result.data.split == "validation" else "; strict, since none of them was chosen on these days"
    return (
        f"{sentence} Deflated: {result.deflated:.2f}, the probability that the true ratio exceeds the best of "
        f"{result.trials} trials without skill{some}{strict}."
    )


def _against_volatility(result: BacktestResult) -> str:
    name = equal_entries(VOLATILITY)
    if name not in result.against:
        return "no volatility regression on these rows: whether the signal is more than volatility is unknown."
    test, correlation, shared = result.against[name], result.correlations[VOLATILITY], result.shared[VOLATILITY]
    numbers = (
        f"{_distance(test)} against the volatility regression with equal entries; rank correlation of the probabilities "
        f"{correlation:.2f}, {shared:.0%} of the entries in common."
    )
    entries = result.strategies[MODEL].entries
    if shared == 1:
        return f"it enters as the volatility regression does; these entries cannot tell the two signals apart: {numbers}"
    if not test.is_significant and entries < FEW_TRADES:
        return f"{entries} trades are too few to tell the signal from one volatility number: {numbers}"
    if not test.is_significant:
        # Chance alone earns no more either, and is no volatility.
        follows = correlation >= MIN_CORRELATION
        verdict = "VOLATILITY ONLY" if follows else "NO MORE THAN VOLATILITY, which it does not follow"
        return (
            f"{verdict}: its daily results cannot be told from those of one volatility number. {numbers} "
            f"A true distance of {1e4 * test.detectable:.1f} bp a day would be seen in 4 of 5 studies."
        )
    return f"{'better' if test.difference.mean > 0 else 'worse'} than one volatility number: {numbers}"


def _against_logistic(result: BacktestResult) -> list[str]:
    test = result.against.get(equal_entries(LOGISTIC))
    if test is None:
        return []
    verdict = "inside the noise" if not test.is_significant else "better" if test.difference.mean > 0 else "worse"
    return [f"{_distance(test)} against the logistic regression with equal entries: {verdict}."]


def _against_holding(result: BacktestResult) -> str:
    test = result.against[HOLD]
    numbers = f"{_distance(test)}, with {result.strategies[MODEL].performance.exposure:.0%} of its exposure."
    if not test.is_significant:
        return f"it does not beat buy-and-hold beyond the noise: {numbers}"
    return f"it {'beats' if test.difference.mean > 0 else 'earns less than'} buy-and-hold: {numbers}"


def _distance(test: PairTest) -> str:
    mean, low, high = (1e4 * value for value in (test.difference.mean, test.difference.low, test.difference.high))
    return f"{mean:+.2f} bp a day [{low:+.2f}, {high:+.2f}]"
