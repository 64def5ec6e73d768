"""Where a reading goes: figure and tables in the store's reports, and a run of kind `report` that MLflow can compare."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.backtest.predictions import VOLATILITY
from analysis.backtest.results import EVERY_DAY, MODEL, BacktestResult, as_many
from analysis.backtest.strategies import HOLD
from analysis.figures.style import ACCENT, INK, LINES, MUTED, bare, save
from research.tracking import schema
from research.tracking.store import Store

DRAWN = {MODEL: ACCENT, as_many(VOLATILITY): INK, EVERY_DAY: MUTED, HOLD: MUTED}


def write_backtest(reading: BacktestResult, folder: Path) -> list[Path]:
    """Figure with its numbers as CSV, the model's trades, and every measure; returns what was written."""
    subject = reading.subject
    stem = f"backtest-{subject.experiment}-h{subject.target.horizon}-{subject.run.run_id[:8]}"
    figure, trades, measures = folder / f"{stem}.png", folder / f"{stem}-trades.csv", folder / f"{stem}-measures.csv"
    save(draw(reading), figure, equity_table(reading))
    reading.strategies[MODEL].trades.to_csv(trades, index=False)
    pd.DataFrame([{"strategy": name, **one.numbers()} for name, one in reading.strategies.items()]).to_csv(
        measures, index=False
    )
    return [figure, figure.with_suffix(".pdf"), figure.with_suffix(".csv"), trades, measures]


def equity_table(reading: BacktestResult) -> pd.DataFrame:
    """Value of each account at every close; all begin with 1."""
    accounts = {name: one.account for name, one in reading.strategies.items()}
    return pd.DataFrame({"date": accounts[MODEL].days, **{name: one.equity for name, one in accounts.items()}})


def draw(reading: BacktestResult) -> Figure:
    """Equity above, loss from the last high below."""
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.4])
    shown = {name: color for name, color in DRAWN.items() if name in reading.strategies}
    for place, (name, color) in enumerate(shown.items()):
        equity = pd.Series(reading.strategies[name].account.equity, index=reading.strategies[name].account.days)
        style = {"color": color, "linestyle": LINES[place], "linewidth": 1.6 if name == MODEL else 1.1}
        above.plot(equity.index, equity, label=name, **style)
        below.plot(equity.index, equity / equity.cummax() - 1, **style)
    above.legend(frameon=False, fontsize=8, loc="upper left")
    above.set(title=_title(reading), ylabel="value of 1")
    below.set(ylabel="from last high")
    below.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    for axes in (above, below):
        bare(axes)
    return figure


def _title(reading: BacktestResult) -> str:
    subject = reading.subject
    days = "validation days, in-sample" if subject.split == "validation" else "test days"
    return f"{subject.experiment}, horizon {subject.target.horizon}: {days}, {reading.cost * 1e4:g} bp a side"


def log_backtest(store: Store, reading: BacktestResult, files: Sequence[Path], note: str) -> str:
    """Log a run of kind `report`; returns its id."""
    # Loads MLflow's client, which readers of a store need not wait for.
    from research.tracking.provenance import provenance
    from research.tracking.run_writer import RunLog

    subject = reading.subject
    told = subject.run.params
    log = RunLog.start(
        store,
        experiment_id=subject.run.experiment_id,
        kind="report",
        name=f"backtest {subject.run.name}",
        params={
            **{name: told[name] for name in ("budget", "horizon", "task", "threshold", "touch") if name in told},
            "backtest_days": subject.split,
            "cost_bp": reading.cost * 1e4,
            "enter_at": reading.threshold,
        },
        tags={
            schema.BACKTEST_OF: subject.run.run_id,
            **{name: subject.run.tags[name] for name in (schema.STUDY_FINGERPRINT, schema.SNAPSHOT_DIGEST)},
            schema.NOTE: note,
            **provenance({}).tags("analysis.backtest.backtest"),
        },
    )
    log.artifacts(lambda into: _copy(files, into))
    log.finish("complete", metrics=metrics(reading))
    return log.run_id


def _copy(files: Sequence[Path], into: Path) -> None:
    for file in files:
        shutil.copy(file, into)


def metrics(reading: BacktestResult) -> dict[str, float]:
    """The model's numbers under `backtest/`, and its distances to the others; what is not known is left out."""
    told = {**reading.strategies[MODEL].numbers(), "deflated_sharpe": reading.deflated, "study_trials": float(reading.trials)}
    for name, test in reading.against.items():
        place, found = name.replace(",", "").replace(" ", "_"), test.difference
        told |= {f"vs_{place}/mean": found.mean, f"vs_{place}/low": found.low, f"vs_{place}/high": found.high}
        told[f"vs_{place}/dm_p"] = test.dm.p_value
    return {f"backtest/{name}": value for name, value in told.items() if value == value}
