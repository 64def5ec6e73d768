"""`make backtest` on a real store: a tiny sweep's predictions, the bars of its snapshot, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from analysis.backtest import backtest as verb
from analysis.backtest.predictions import backtest_input
from analysis.backtest.results import MODEL, run_backtest
from analysis.options import BacktestOptions
from pipelines.sweep.driver import run_sweep
from research.errors import InputError
from research.models.baselines import BASELINES
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store
from tests.support.small_sweeps import copy_of, options
from tests.support.verbs import commands_to_type

COST = 2e-4


@dataclass(frozen=True, kw_only=True)
class Swept:
    store: Store
    best: RunRecord
    trials: list[RunRecord]

    def asked(self, **changes: object) -> BacktestOptions:
        return BacktestOptions(**{"budget": "2K", "store": self.store.root, **changes})  # type: ignore[arg-type]

    def predictions(self) -> pd.DataFrame:
        return query.predictions(self.store, self.best.run_id)


@pytest.fixture(scope="module")
def swept(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    root = copy_of(migrated_store, tmp_path_factory.mktemp("backtest"))
    references = {name: BASELINES[name] for name in ("prior", "volatility")}
    with (
        patch("pipelines.sweep.driver.BASELINES", references),
        patch("pipelines.trial.figures.save"),
        patch("pipelines.sweep.parent_run.register_best", return_value=None),
    ):
        sweep = run_sweep(options(root, trials=2, epochs=1), Console(quiet=True))
    store = open_store(root)
    trials = query.runs_of_kind(store, list(query.experiments(store)), ("trial",))
    assert sweep.best is not None
    (best,) = [one for one in trials if one.run_id == sweep.best.run_id]
    return Swept(store=store, best=best, trials=trials)


def logged(swept: Swept, kind: schema.RunKind, *, predictions: pd.DataFrame | None = None, **tags: str) -> str:
    """Another run about the best trial, as a look at the test days or an adoption would leave it."""
    log = RunLog.start(
        swept.store,
        experiment_id=swept.best.experiment_id,
        kind=kind,
        name=f"{kind} of a test",
        params={**swept.best.params, "horizon": 7},
        tags={**{name: value for name, value in swept.best.tags.items() if name.endswith(("fingerprint", "digest"))}, **tags},
    )
    if predictions is not None:
        log.artifacts(lambda folder: predictions.to_parquet(folder / schema.PREDICTIONS_FILE))
    log.finish("complete")
    return log.run_id


def test_the_best_trial_is_read_and_said_to_be_in_sample(swept: Swept, capsys: pytest.CaptureFixture[str]) -> None:
    verb.main(swept.asked(enter="0.2", cost=1.5, slippage=0.5))
    out = capsys.readouterr().out
    assert out.startswith(f"IN-SAMPLE, validation days: {swept.best.name} was chosen on these very days among 2 trials.")
    assert "costs 1.5 bp and slippage 0.5 bp" in out
    assert commands_to_type(out, swept.store.root) == ["make train", "make evaluate"]
    assert re.search(r"against the volatility regression|nothing is traded", out)
    (report,) = query.runs_of_kind(swept.store, [swept.best.experiment_id], ("report",))
    assert report.tags[schema.BACKTEST_OF] == swept.best.run_id
    assert (report.params["cost_bp"], report.params["backtest_days"]) == (2, "validation")
    written = sorted(path.name for path in (swept.store.root / "reports").iterdir())
    assert len(written) == 5
    trades = pd.read_csv(swept.store.root / "reports" / next(name for name in written if name.endswith("trades.csv")))
    assert len(trades) == report.metrics["backtest/trades"] == (swept.predictions()["probability"] >= 0.2).sum()


def test_every_trade_is_one_of_the_bars(swept: Swept, sp500: pd.DataFrame) -> None:
    found = run_backtest(swept.store, backtest_input(swept.store, swept.asked()), cost=COST, enter="0")
    trades, model = found.strategies[MODEL].trades, found.strategies[MODEL]
    assert len(trades) == len(swept.predictions()) == 877
    assert (trades["entry"].to_numpy() == sp500.loc[trades["entered"], "close"].to_numpy()).all()
    after = sp500.loc[trades["exited"]]
    assert ((trades["exit"] <= after["high"].to_numpy() + 1e-9) & (trades["exit"] >= after["low"].to_numpy() - 1e-9)).all()
    assert model.account.equity[-1] == pytest.approx(np.prod(1 + trades["net"]))
    # No day after the last label has ended is touched: test days stay closed.
    assert model.account.days[-1] == swept.predictions()["label_end"].max()


def test_the_spread_of_all_trials_deflates(swept: Swept) -> None:
    median = str(swept.predictions()["probability"].median())
    found = run_backtest(swept.store, backtest_input(swept.store, swept.asked()), cost=COST, enter=median)
    assert (found.trials, found.trials_read) == (2, 2)
    assert found.spread > 0
    assert found.deflated < found.strategies[MODEL].performance.probabilistic_sharpe


def test_a_run_is_found_by_its_first_letters(swept: Swept) -> None:
    worse = next(one for one in swept.trials if one.run_id != swept.best.run_id)
    assert backtest_input(swept.store, swept.asked(run=worse.run_id[:12], budget="")).run.run_id == worse.run_id
    assert backtest_input(swept.store, swept.asked(budget="")).run.run_id == swept.best.run_id


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"budget": "20K"}, "BUDGET=20K: no complete trial of horizon 1 at 20K"),
        ({"budget": "", "horizon": 9}, "HORIZON=9: no complete trial of horizon 9"),
        ({"run": "nowhere"}, "RUN=nowhere: no run with predictions has an id that begins like this"),
        ({"cost": -1.0}, "COST=-1.0: give basis points of 0 or more"),
        ({"slippage": 1000.0}, "SLIPPAGE=1000.0: give basis points of 0 or more and below 1,000"),
        ({"enter": "top tenth"}, "ENTER=top tenth: it is chosen on the validation days themselves"),
    ],
)
def test_a_mistake_is_one_sentence(swept: Swept, changes: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        verb.main(swept.asked(log=False, **changes))


def test_runs_without_predictions_to_trade_on_are_refused(swept: Swept) -> None:
    adopted = logged(swept, "trial", adopted_fingerprint="x", study_fingerprint="another")
    final = logged(swept, "final", study_fingerprint="another")
    none = logged(swept, "trial", study_fingerprint="another")
    old = logged(swept, "trial", predictions=swept.predictions().drop(columns="symbol"), study_fingerprint="another")
    for run_id, match in (
        (adopted, "it was adopted from files, without predictions"),
        (final, "its test days are closed; make evaluate"),
        (none, "has no artifact predictions_validation.parquet"),
        (old, "its predictions have no column symbol; run the same sweep again"),
    ):
        with pytest.raises(InputError, match=match):
            backtest_input(swept.store, swept.asked(run=run_id))


def test_bars_that_are_gone_are_named(swept: Swept) -> None:
    away = swept.store.snapshots.rename(swept.store.root / "away")
    try:
        with pytest.raises(InputError, match=r"its bars cannot be read here\. DATA=e56348962ae6f5b4: no such snapshot"):
            backtest_input(swept.store, swept.asked())
    finally:
        away.rename(swept.store.snapshots)
