"""Several instruments and fewer windows, through a whole sweep: what was asked for is what the runs say and the model takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from analysis.frontier import frontiers
from analysis.leaderboard import table_of
from pipelines.assembly import assemble, symbols_of
from pipelines.champion import example_of, signature_of
from pipelines.driver import run_sweep
from pipelines.options import StudyOptions, SweepOptions
from pipelines.state import Sweep
from pipelines.study import pool_name
from research.data.bundled import bundled
from research.models.accounting import parameter_count
from research.spec import InputError
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store, open_store

ASKED = {
    "budget": "3K",
    "symbols": ("^IXIC", "^GSPC"),
    "features": "s50",
    "index": "^IXIC",
    "symbol_embedding": True,
    "windows": "2K",
    "trials": 1,
    "epochs": 1,
    "device": "cpu",
    "workers": 1,
    "threads": 1,
}


@pytest.fixture(scope="module")
def root(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool") / "mlruns"
    shutil.copytree(migrated_store, folder)
    return folder


@pytest.fixture(scope="module")
def sweep(root: Path) -> Sweep:
    return run_sweep(SweepOptions(store=root, **ASKED), Console(quiet=True))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def store(sweep: Sweep, root: Path) -> Store:
    return open_store(root)


@pytest.fixture(scope="module")
def trial(sweep: Sweep, store: Store) -> RunRecord:
    runs = query.children(store, sweep.context.experiment_id, sweep.log.run_id)
    return next(run for run in runs if run.kind == "trial")


def test_a_pooled_trial_says_on_which_instruments_and_how_many_windows_it_was_trained(trial: RunRecord, store: Store):
    assert trial.outcome == "complete"
    assert trial.params["symbol"] == "^GSPC,^IXIC"
    assert trial.params["validate_on"] == "^GSPC,^IXIC"
    assert (trial.params["feature_set"], trial.params["index"], trial.params["volatility_index"]) == ("s50", "^IXIC", "none")
    assert (trial.params["train_windows"], trial.params["symbol_embedding"]) == (2000, 2)
    assert (trial.metrics["n_train_windows"], trial.metrics["n_instruments"]) == (2000, 2)
    # Two instruments of one country say little more than one.
    assert trial.metrics["n_effective_windows"] < 1000 == trial.metrics["n_train_days"]
    assert query.experiments(store)[trial.experiment_id] == "sp500-nasdaq-threshold-1pct"


def test_the_parent_and_its_model_are_named_after_the_windows(sweep: Sweep, store: Store):
    (parent,) = query.of_kinds(store, [sweep.context.experiment_id], ["sweep"])
    assert parent.name == "3K-h1-w2K"
    assert parent.metrics["sweep/n_train_windows"] == 2000
    assert store.client.get_model_version_by_alias("sp500-nasdaq-threshold-1pct-3K-h1-w2K", schema.CHALLENGER)


def test_each_instrument_has_a_loss_of_its_own(trial: RunRecord, store: Store):
    said = query.predictions(store, trial.run_id)
    assert set(said["symbol"]) == {"^GSPC", "^IXIC"}
    by_symbol = said.groupby("symbol")["loss"].mean()
    assert trial.metrics["val_loss_sp500"] == pytest.approx(by_symbol["^GSPC"])
    assert trial.metrics["val_loss_nasdaq"] == pytest.approx(by_symbol["^IXIC"])
    assert trial.metrics["val_loss"] == pytest.approx(said["loss"].mean(), abs=1e-6)
    assert (said.groupby("symbol")["date"].nunique() == 877).all()


def test_the_embedding_is_counted(sweep: Sweep, trial: RunRecord):
    assert sweep.best is not None
    assert sweep.best.spec is not None
    assert sweep.best.spec.architecture.n_symbols == 2
    assert trial.metrics["n_params"] == parameter_count(sweep.best.spec.architecture)


def test_the_registered_model_takes_the_bars_of_all_instruments(sweep: Sweep, trial: RunRecord, store: Store):
    version = store.client.get_model_version_by_alias("sp500-nasdaq-threshold-1pct-3K-h1-w2K", schema.CHALLENGER)
    model = mlflow.pyfunc.load_model(version.source)
    bars = example_of(sweep.context.study, days=5100)
    served = model.predict(bars).set_index(["symbol", "date"])["probability"]
    trained = query.predictions(store, trial.run_id)
    keys = list(zip(trained["symbol"], trained["date"].dt.strftime("%Y-%m-%d"), strict=True))
    assert served[keys].to_numpy() == pytest.approx(trained["probability"], abs=1e-6)
    with pytest.raises(Exception, match="symbol"):
        model.predict(bars.drop(columns="symbol"))
    with pytest.raises(InputError, match=r"symbol=\^IXIC: the features compare with it; add its bars"):
        model.predict(bars[bars["symbol"] == "^GSPC"])
    with pytest.raises(InputError, match=r"symbol=SPY: the model was trained to know \^GSPC, \^IXIC apart"):
        model.predict(pd.concat([bars, bars[bars["symbol"] == "^GSPC"].assign(symbol="SPY")]))


def test_a_leaderboard_counts_days_and_not_rows(sweep: Sweep, store: Store):
    (frontier,) = frontiers(store, None)
    assert (frontier.n_days, frontier.n_train_windows, frontier.instruments) == (877, 2000, "^GSPC,^IXIC")
    assert frontier.entries[0].day_losses.mean() == pytest.approx(frontier.entries[0].val_loss, abs=1e-6)
    assert "2,000 training windows, 877 validation days" in str(table_of(frontier).title)


def test_validating_on_one_instrument_gives_the_rows_of_its_own_study():
    bars = bundled().bars
    one, other = (
        assemble(options, bars, digest="", source="bundled").prepared
        for options in (StudyOptions(), StudyOptions(symbols=("all",), validate_on=("^GSPC",)))
    )
    rows = [each.days[each.split.validation] for each in (one, other)]
    assert rows[0].equals(rows[1])
    np.testing.assert_array_equal(one.labels_of("validation"), other.labels_of("validation"))
    assert len(other.split.train) == 2 * len(one.split.train)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"symbol": "SPY"}, r"SYMBOL=SPY: the data have \^GSPC, \^IXIC\."),
        ({"symbols": ("^GSPC", "SPY")}, r"SYMBOLS=SPY: the data have \^GSPC, \^IXIC\."),
        ({"symbol": "^GSPC", "symbols": ("^IXIC",)}, r"SYMBOL=\^GSPC: give SYMBOL for one instrument or SYMBOLS for several"),
        ({"symbols": ("^GSPC", "^GSPC")}, r"SYMBOLS=\^GSPC,\^GSPC: give each instrument once"),
        ({"validate_on": ("^IXIC",)}, r"VALIDATE_ON=\^IXIC: give instruments that are trained on: \^GSPC\."),
        ({"features": "s50", "index": "SPY"}, r"INDEX=SPY: the data have"),
        ({"features": "s50", "volatility_index": "^VIX"}, r"VOLATILITY_INDEX=\^VIX: the data have"),
        ({"windows": "many"}, r"WINDOWS=many: not a number of training windows"),
        ({"windows": "1M"}, r"WINDOWS=1000000: there are 3,012 training windows"),
        ({"symbols": ("all",), "context": 4000}, r"\^GSPC: CONTEXT=4000: no training day"),
    ],
)
def test_what_the_data_do_not_have_is_refused_by_name(changes: dict[str, object], told: str):
    with pytest.raises(InputError, match=told):
        assemble(StudyOptions(**changes), bundled().bars, digest="", source="bundled")  # type: ignore[arg-type]


def test_data_of_several_unusual_instruments_need_a_choice():
    bars = bundled().bars
    assert symbols_of(StudyOptions(), {"SPY": bars["^GSPC"]}) == ("SPY",)
    with pytest.raises(InputError, match="SYMBOL=: the data have A, B; give one as SYMBOL, or several as SYMBOLS=A,B"):
        symbols_of(StudyOptions(), {"A": bars["^GSPC"], "B": bars["^IXIC"]})
    assert symbols_of(StudyOptions(symbols=("all",), index="A"), {"A": bars["^GSPC"], "B": bars["^IXIC"]}) == ("B",)


def test_a_large_pool_has_a_short_name_of_its_own():
    many = tuple(f"S{place}" for place in range(40))
    assert pool_name(("^GSPC",)) == "sp500"
    assert pool_name(("SPY", "QQQ")) == "spy-qqq"
    assert pool_name(many).startswith("s0-and-39-")
    assert pool_name(many) != pool_name((*many[:-1], "OTHER"))


def test_dividends_and_references_are_columns_of_the_signature_only_where_there_are_any(sweep: Sweep):
    example = example_of(sweep.context.study, days=3)
    assert list(example.columns) == ["symbol", "date", "open", "high", "low", "close", "volume"]
    assert [one.name for one in signature_of(example.drop(columns="symbol")).outputs] == ["date", "probability"]
