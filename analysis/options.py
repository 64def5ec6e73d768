"""What a reader may ask for. Light to import, so that `--help` answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """Which results are read."""

    experiment: str | None = None
    """Only this MLflow experiment; all of them if not given."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""


@dataclass(frozen=True, kw_only=True)
class LeaderboardOptions(ReaderOptions):
    """Best architecture per budget and horizon, beside the baselines of the same rows.

    examples:
      make leaderboard
      make leaderboard FIGURES=1 ADOPTED=1
      tapescale leaderboard --experiment sp500-threshold-1pct
    """

    adopted: bool = False
    """Show the results adopted from an earlier study as well, in a table of their own."""
    figures: bool = False
    """Draw tuning curves, learning curves and calibration into the store's `reports`, PNG, PDF and CSV."""


@dataclass(frozen=True, kw_only=True)
class ScalingOptions(ReaderOptions):
    """Validation loss against counted parameters: a table and a figure with every trial and the baselines.

    With --csv the losses are read from a table instead, one row per training run, and scaling laws are fitted to them
    (docs/laws.md).

    examples:
      make scaling
      tapescale scaling --experiment sp500-threshold-1pct
      tapescale scaling --csv runs.csv --n parameters --d tokens --loss val_loss --law chinchilla --json
    """

    csv: Path | None = None
    """Table of results, with a header line; the store is not read."""
    n: str | None = None
    """Column of the table with parameters N."""
    d: str | None = None
    """Column with tokens seen D; without it only laws of N are fitted, and the verdict on N is given."""
    unique: str | None = None
    """Column with unique tokens U, where data were repeated; used by the overfitting law."""
    loss: str | None = None
    """Column with losses."""
    cluster: str | None = None
    """Column, an architecture for example: rows of one N that share it are drawn together by the bootstrap."""
    law: str = "all"
    """One law by name, or all; all reports the one that predicts held-out budgets best."""
    bootstrap: int = 4000
    """Draws of the bootstrap behind errors and intervals."""
    holdout_largest: bool = False
    """Fit without the largest budget and say how well it is predicted."""
    delta: float = 1e-3
    """Residual of the log loss from which Huber's loss is linear."""
    json: bool = False
    """Print one JSON object instead of tables."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions(ReaderOptions):
    """Is A better than B on the days they share? Without two names: which of all finalists and baselines may be the best.

    examples:
      make compare A=20K B=logistic
      make compare
      tapescale compare 20K logistic --experiment sp500-threshold-1pct
    """

    models: Positional[tuple[str, ...]] = ()
    """Two of: a budget (`20K`: its best trial at every horizon), a baseline (`logistic`), a run id or its first letters."""


@dataclass(frozen=True, kw_only=True)
class EffectsOptions(ReaderOptions):
    """What depth, width, heads and the other settings contribute at each budget; whether a shape serves other horizons too.

    examples:
      make effects
      tapescale effects --experiment sp500-threshold-1pct
    """


@dataclass(frozen=True, kw_only=True)
class StatusOptions(ReaderOptions):
    """Where running sweeps stand, what they train, what has stalled, and how much disk is left. Writes nothing.

    examples:
      make status
      make status WATCH=5
      tapescale status --watch 5
    """

    watch: float | None = None
    """Draw again every so many seconds until Ctrl-C; once if not given."""


@dataclass(frozen=True, kw_only=True)
class ForecastOptions(ReaderOptions):
    """The lowest loss of a budget that has not been tried, with a 95% interval, sealed before its sweep exists.

    Without a budget, the forecasts that were made and how they did.

    examples:
      make forecast BUDGET=20M HORIZON=1
      make forecast
      tapescale forecast --budget 20M --horizon 1
    """

    budget: str | None = None
    """Number of parameters, beyond those that were swept: 20M."""
    horizon: int | None = None
    """Only the questions of this horizon; all of them if not given."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions(ReaderOptions):
    """One self-contained page of all results in the store, as HTML and Markdown, logged as a run of kind `report`.

    examples:
      make report
      make report ARGS='--experiment sp500-threshold-1pct --no-log'
      tapescale report --ui http://127.0.0.1:5002
    """

    ui: str = "http://127.0.0.1:5000"
    """Address of MLflow's pages, where the numbers' links lead."""
    log: bool = True
    """Keep the report as a run in the store; --no-log only writes the files."""


@dataclass(frozen=True, kw_only=True)
class BacktestOptions(ReaderOptions):
    """What acting on a model's stored probabilities would have earned, beside buy-and-hold and the volatility regression.

    Reads the evaluation of the final run if there is one, else the best trial's validation predictions, which flatter.

    examples:
      make backtest BUDGET=20K HORIZON=1
      make backtest BUDGET=20K HORIZON=3 COST=2 SLIPPAGE=3
      make backtest RUN=<evaluation> ENTER=0.4 ARGS=--no-log
    """

    budget: str = ""
    """Budget of the final run or trial, for example 20K; not needed where there is one only."""
    horizon: int = 1
    """Its horizon."""
    run: str = ""
    """A trial's or an evaluation's run id, or how it begins, instead of budget and horizon."""
    cost: float = 1.0
    """Commission and half the spread, in basis points of the traded value, at entry and at exit each."""
    slippage: float = 1.0
    """How much worse than the assumed price is got, in basis points, at entry and at exit each."""
    enter: str = "break-even"
    """Which probability enters: `break-even` (what pays on average, by the trades of all earlier sessions), a number such as
    0.4, or, of an evaluation, `F1`, `base rate` or `top tenth`, which it had chosen on validation days."""
    log: bool = True
    """Keep the reading as a run of kind `report`; --no-log only writes the files."""
