"""Output of a backtest: figure and tables in the store's reports, and a run of kind `report`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.backtest.predictions import VOLATILITY
from analysis.backtest.results import EVERY_DAY, MODEL, BacktestResult, equal_entries
from analysis.backtest.strategies import HOLD
from analysis.figures.style import ACCENT, INK, LINES, MUTED, hide_frame, save
from research.tracking import schema
from research.tracking.store import Store

COLORS = {MODEL: ACCENT, equal_entries(VOLATILITY): INK, EVERY_DAY: MUTED, HOLD: MUTED}
"""Strategies in the figure."""


def write_backtest(result: BacktestResult, folder: Path) -> list[Path]:
    """Write the figure with its numbers as CSV, the model's trades and all measures; return the paths."""
    data = result.data
    stem = f"backtest-{data.experiment}-h{data.target.horizon}-{data.run.run_id[:8]}"
    figure, trades, measures = folder / f"{stem}.png", folder / f"{stem}-trades.csv", folder / f"{stem}-measures.csv"
    save(draw(result), figure, equity_table(result))
    result.strategies[MODEL].trades.to_csv(trades, index=False)
    rows = [{"strategy": name, **strategy.numbers()} for name, strategy in result.strategies.items()]
    pd.DataFrame(rows).to_csv(measures, index=False)
    return [figure, figure.with_suffix(".pdf"), figure.with_suffix(".csv"), trades, measures]


def equity_table(result: BacktestResult) -> pd.DataFrame:
    """Return the value of each account at every close; all begin with 1."""
    accounts = {name: strategy.account for name, strategy in result.strategies.items()}
    return pd.DataFrame({"date": accounts[MODEL].days, **{name: account.equity for name, account in accounts.items()}})


def draw(result: BacktestResult) -> Figure:
    """Draw equity above and drawdown below."""
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.4])
    drawn = {name: color for name, color in COLORS.items() if name in result.strategies}
    for line_style, (name, color) in zip(LINES, drawn.items(), strict=False):
        account = result.strategies[name].account
        equity = pd.Series(account.equity, index=account.days)
        style = {"color": color, "linestyle": line_style, "linewidth": 1.6 if name == MODEL else 1.1}
        above.plot(equity.index, equity, label=name, **style)
        below.plot(equity.index, equity / equity.cummax() - 1, **style)
    data = result.data
    days = "validation days, in-sample" if data.split == "validation" else "test days"
    above.legend(frameon=False, fontsize=8, loc="upper left")
    above.set(
        title=f"{data.experiment}, horizon {data.target.horizon}: {days}, {result.cost * 1e4:g} bp a side", ylabel="value of 1"
    )
    below.set(ylabel="from last high")
    below.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    for axes in (above, below):
        hide_frame(axes)
    return figure


def log_backtest(store: Store, result: BacktestResult, files: Sequence[Path], note: str) -> str:
    """Log a run of kind `report` and return its id."""
    # Loads MLflow's client, which readers of a store need not wait for.
    from research.tracking.provenance import provenance
    from research.tracking.run_writer import RunLog

    def copy_files(folder: Path) -> None:
        for file in files:
            shutil.copy(file, folder)

    data = result.data
    params = data.run.params
    log = RunLog.start(
        store,
        experiment_id=data.run.experiment_id,
        kind="report",
        name=f"backtest {data.run.name}",
        params={
            **{name: params[name] for name in ("budget", "horizon", "task", "threshold", "touch") if name in params},
            "backtest_days": data.split,
            "cost_bp": result.cost * 1e4,
            "enter_at": result.threshold,
        },
        tags={
            schema.BACKTEST_OF: data.run.run_id,
            **{name: data.run.tags[name] for name in (schema.STUDY_FINGERPRINT, schema.SNAPSHOT_DIGEST)},
            schema.NOTE: note,
            **provenance({}).tags("tapescale backtest"),
        },
    )
    log.artifacts(copy_files)
    log.finish("complete", metrics=metrics(result))
    return log.run_id


def metrics(result: BacktestResult) -> dict[str, float]:
    """Return the model's measures under `backtest/` and its distances to the others, without NaN."""
    model = result.strategies[MODEL]
    values = {**model.numbers(), "deflated_sharpe": result.deflated, "study_trials": float(result.trials)}
    for name, test in result.against.items():
        # Stores know these strategies as "as many entries".
        slug = name.replace("equal entries", "as many entries").replace(",", "").replace(" ", "_")
        difference = test.difference
        values |= {f"vs_{slug}/mean": difference.mean, f"vs_{slug}/low": difference.low, f"vs_{slug}/high": difference.high}
        values[f"vs_{slug}/dm_p"] = test.dm.p_value
    return {f"backtest/{name}": value for name, value in values.items() if value == value}
