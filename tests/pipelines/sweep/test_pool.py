"""Several instruments and fewer windows, through a whole sweep: what was asked for is what the runs say and the model takes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from rich.console import Console

from analysis.leaderboard import leaderboard_table
from analysis.results.frontier import frontiers
from pipelines.options import SweepOptions
from pipelines.serving.packaging import example_of, signature_of
from pipelines.sweep.driver import run_sweep
from pipelines.sweep.grid import architectures_of
from pipelines.sweep.state import Sweep
from pipelines.trial.task_record import data_metrics
from research.data.bundled import bundled
from research.data.dividend_adjustment import adjusted
from research.errors import InputError
from research.features.feature_sets import A25S, build, feature_set_named
from research.features.indicators import ewma_volatility
from research.models.accounting import parameter_count
from research.models.budget import Budget
from research.spec import DataSpec, TargetSpec
from research.task.build import assemble, symbols_of
from research.task.options import TaskOptions
from research.task.task import baseline_rows, pool_name, require_same_clock
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.spec_codec import trial_spec_from_run
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
    assert (trial.params["train_windows"], trial.params["n_symbols"]) == (2000, 2)
    assert (trial.metrics["n_train_windows"], trial.metrics["n_instruments"]) == (2000, 2)
    # Two instruments of one country say little more than one.
    assert trial.metrics["n_effective_windows"] < 1000 == trial.metrics["n_train_days"]
    assert query.experiments(store)[trial.experiment_id] == "sp500-nasdaq-threshold-1pct"


def test_the_parent_and_its_model_are_named_after_the_windows(sweep: Sweep, store: Store):
    (parent,) = query.runs_of_kind(store, [sweep.context.experiment_id], ["sweep"])
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


def test_a_run_says_enough_to_continue_its_sweep(sweep: Sweep, trial: RunRecord):
    assert sweep.best is not None
    assert trial_spec_from_run(trial, sweep.context.task.spec) == sweep.best.spec


def test_the_registered_model_takes_the_bars_of_all_instruments(sweep: Sweep, trial: RunRecord, store: Store):
    version = store.client.get_model_version_by_alias("sp500-nasdaq-threshold-1pct-3K-h1-w2K", schema.CHALLENGER)
    model = mlflow.pyfunc.load_model(version.source)
    bars = example_of(sweep.context.task, days=5100)
    served = model.predict(bars).set_index(["symbol", "date"])["probability"]
    trained = query.predictions(store, trial.run_id)
    keys = list(zip(trained["symbol"], trained["date"].dt.strftime("%Y-%m-%d"), strict=True))
    assert served[keys].to_numpy() == pytest.approx(trained["probability"], abs=1e-6)
    with pytest.raises(Exception, match="symbol"):
        model.predict(bars.drop(columns="symbol"))
    with pytest.raises(MlflowException, match=r"symbol=\^IXIC: the features compare with it; add its bars"):
        model.predict(bars[bars["symbol"] == "^GSPC"])
    with pytest.raises(MlflowException, match=r"symbol=SPY: the model was trained on \^GSPC, \^IXIC"):
        model.predict(pd.concat([bars, bars[bars["symbol"] == "^GSPC"].assign(symbol="SPY")]))


def test_the_example_has_what_its_days_need_also_where_the_reference_has_more_sessions(sweep: Sweep):
    task = sweep.context.task
    rare = task.snapshot.of("^GSPC").iloc[np.arange(5031) % 20 > 0]
    alone = replace(task.spec, data=DataSpec(snapshot_digest="", symbols=("^GSPC",), validate_on=("^GSPC",)))
    snapshot = replace(task.snapshot, bars={**task.snapshot.bars, "^GSPC": rare})
    example = example_of(replace(task, spec=alone, snapshot=snapshot), days=7)
    bars = {
        str(name): part.assign(date=pd.to_datetime(part["date"])).set_index("date") for name, part in example.groupby("symbol")
    }
    matrix = build(feature_set_named("s50", index="^IXIC"), bars["^GSPC"], bars)
    assert len(matrix.days) - matrix.first_row - (task.prepared.context_length - 1) == 7


def test_a_leaderboard_counts_days_and_not_rows(sweep: Sweep, store: Store):
    (frontier,) = frontiers(store, None)
    assert (frontier.n_days, frontier.n_train_windows, frontier.instruments) == (877, 2000, "^GSPC,^IXIC")
    assert frontier.entries[0].day_losses.mean() == pytest.approx(frontier.entries[0].val_loss, abs=1e-6)
    assert "2,000 training windows, 877 validation days" in str(leaderboard_table(frontier).title)


def test_validating_on_one_instrument_gives_the_rows_of_its_own_study():
    bars = bundled().bars
    one, other = (
        assemble(options, bars, digest="", source="bundled").prepared
        for options in (TaskOptions(), TaskOptions(symbols=("all",), validate_on=("^GSPC",)))
    )
    rows = [each.days[each.split.validation] for each in (one, other)]
    assert rows[0].equals(rows[1])
    np.testing.assert_array_equal(one.labels_of("validation"), other.labels_of("validation"))
    assert len(other.split.train) == 2 * len(one.split.train)


def test_what_is_trained_on_moves_no_border_of_the_validated_instrument():
    bars = {"^GSPC": bundled().bars["^GSPC"], "NEW": bundled().bars["^IXIC"]["2006-07-01":]}  # type: ignore[misc]
    days = bars["^GSPC"].index[:4000]
    other = {"^GSPC": bars["^GSPC"].loc[days], "NEW": bars["NEW"]}
    alone, pooled = (
        assemble(options, other, digest="", source="file").spec.split
        for options in (TaskOptions(), TaskOptions(symbols=("all",), validate_on=("^GSPC",)))
    )
    assert alone == pooled


def test_the_question_that_was_typed_is_the_one_that_is_labelled():
    asked = TaskOptions(horizon=3, task="downside", touch="close", threshold=0.02, shuffle_labels=5, embargo=7)
    found = assemble(asked, bundled().bars, digest="", source="bundled")
    expected = TargetSpec(horizon=3, kind="downside", touch="close", threshold=0.02, shuffled=5)
    assert found.prepared.parts[0].target.spec == found.spec.target == expected
    assert found.spec.split.embargo == 7
    plain = assemble(replace(asked, embargo=0), bundled().bars, digest="", source="bundled")
    assert len(plain.prepared.split.train) - len(found.prepared.split.train) == 7


def test_the_searched_architectures_fit_the_study_and_its_options():
    asked = SweepOptions(symbols=("all",), features="s50", context=70, symbol_embedding=True, window_norm=True)
    prepared = assemble(asked, bundled().bars, digest="", source="bundled").prepared
    for options, expected in (
        (asked, (70, True, 2)),
        (replace(asked, symbol_embedding=False, window_norm=False), (70, False, 0)),
    ):
        for one in architectures_of(options, prepared, Budget.parse("6K")):
            assert (one.context_length, one.window_norm, one.n_symbols) == expected
            assert one.n_features == len(prepared.columns)


def test_baselines_see_the_rows_of_the_trials_and_each_instruments_own_numbers():
    asked = TaskOptions(symbols=("all",), validate_on=("^IXIC",), features="s50")
    found, nasdaq = assemble(asked, bundled().bars, digest="", source="bundled"), bundled().bars["^IXIC"]
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(found.stationary.split, part), getattr(found.prepared.split, part))
    rows, days = found.prepared.split.validation, found.prepared.days[found.prepared.split.validation]
    own = nasdaq.index.get_indexer(days)
    volatility = ewma_volatility(nasdaq["close"].to_numpy(np.float64))
    np.testing.assert_array_equal(baseline_rows(found).volatility_validation, volatility[own])
    np.testing.assert_array_equal(found.stationary.values[rows], build(A25S, nasdaq).values[own])


def paying() -> pd.DataFrame:
    """The index as a fund that pays a tenth of its price four times a year."""
    bars = bundled().bars["^GSPC"].assign(dividends=0.0)
    days = bars.index[100::63]
    bars.loc[days, "dividends"] = 0.1 * bars.loc[days, "close"]
    return bars


def test_features_labels_and_volatility_come_from_prices_without_dividends():
    bought, taken_out, ignored = (
        assemble(TaskOptions(), {"^GSPC": bars}, digest="", source="bundled")
        for bars in (paying(), adjusted(paying()), paying().drop(columns="dividends"))
    )
    assert bought.prepared.feature_digest == taken_out.prepared.feature_digest != ignored.prepared.feature_digest
    assert bought.prepared.target_digest == taken_out.prepared.target_digest != ignored.prepared.target_digest
    np.testing.assert_array_equal(bought.volatility, taken_out.volatility)
    assert not np.allclose(bought.volatility, ignored.volatility)


def test_the_registered_model_takes_dividends_out_itself(sweep: Sweep, store: Store):
    version = store.client.get_model_version_by_alias("sp500-nasdaq-threshold-1pct-3K-h1-w2K", schema.CHALLENGER)
    model = mlflow.pyfunc.load_model(version.source).unwrap_python_model()
    raw = pd.concat(
        [paying().tail(400).assign(symbol="^GSPC"), sweep.context.task.snapshot.of("^IXIC").tail(400).assign(symbol="^IXIC")]
    )
    by_hand = pd.concat([adjusted(part) if symbol == "^GSPC" else part for symbol, part in raw.groupby("symbol")])
    served, expected, ignored = (
        model.predict(None, table.fillna({"dividends": 0.0}).rename_axis("date").reset_index())["probability"]
        for table in (raw, by_hand, raw.drop(columns="dividends"))
    )
    np.testing.assert_allclose(served, expected, rtol=1e-6)
    assert not np.allclose(served, ignored)


def test_an_instrument_that_ended_early_is_trained_on_and_cannot_be_validated():
    bars = {"^GSPC": bundled().bars["^GSPC"], "OLD": bundled().bars["^IXIC"][:"2010-06-30"]}  # type: ignore[misc]
    with pytest.raises(
        InputError, match=r"VALIDATE_ON=OLD: it has no labelled day in 2011-12-31 \.\. 2015-06-30; leave it out"
    ):
        assemble(TaskOptions(symbols=("all",)), bars, digest="", source="bundled")
    others = TaskOptions(symbols=("all",), validate_on=("^GSPC",))
    prepared = assemble(others, bars, digest="", source="bundled").prepared
    assert prepared.validated == ["^GSPC"]
    assert set(prepared.symbols[prepared.split.train]) == {0, 1}


def test_instruments_count_where_windows_of_them_are_trained_on(sweep: Sweep):
    task, rows = sweep.context.task, sweep.context.task.prepared.split.train
    newest = replace(task.prepared.split, train=rows[task.prepared.symbols[rows] == 1])
    ended = replace(task, prepared=replace(task.prepared, split=newest))
    assert (data_metrics(task)["n_instruments"], data_metrics(ended)["n_instruments"]) == (2, 1)


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
        assemble(TaskOptions(**changes), bundled().bars, digest="", source="bundled")  # type: ignore[arg-type]


def test_data_of_several_unusual_instruments_need_a_choice():
    bars = bundled().bars
    assert symbols_of(TaskOptions(), {"SPY": bars["^GSPC"]}) == ("SPY",)
    with pytest.raises(InputError, match="SYMBOL=: the data have A, B; give one as SYMBOL, or several as SYMBOLS=A,B"):
        symbols_of(TaskOptions(), {"A": bars["^GSPC"], "B": bars["^IXIC"]})
    assert symbols_of(TaskOptions(symbols=("all",), index="A"), {"A": bars["^GSPC"], "B": bars["^IXIC"]}) == ("B",)


def test_a_large_pool_has_a_short_name_of_its_own():
    many = tuple(f"S{place}" for place in range(40))
    assert pool_name(("^GSPC",)) == "sp500"
    assert pool_name(("SPY", "QQQ")) == "spy-qqq"
    assert pool_name(many).startswith("s0-and-39-")
    assert pool_name(many) != pool_name((*many[:-1], "OTHER"))


def test_dividends_and_references_are_columns_of_the_signature_only_where_there_are_any(sweep: Sweep):
    example = example_of(sweep.context.task, days=3)
    assert list(example.columns) == ["symbol", "date", "open", "high", "low", "close", "volume"]
    assert [one.name for one in signature_of(example.drop(columns="symbol")).outputs] == ["date", "probability"]


def test_raw_columns_of_an_instrument_that_pays_dividends_are_refused():
    bars = bundled().bars["^GSPC"].assign(dividends=0.0)
    bars.loc["2005-03-18", "dividends"] = 5.0
    with pytest.raises(InputError, match="FEATURES=a25: FUND pays dividends, and raw levels"):
        assemble(TaskOptions(features="a25"), {"FUND": bars}, digest="", source="file")
    assert assemble(TaskOptions(features="a25s"), {"FUND": bars}, digest="", source="file").prepared.validated == ["FUND"]


def test_a_reference_of_another_exchange_is_refused(sweep: Sweep):
    snapshot = sweep.context.task.snapshot
    elsewhere = {**snapshot.manifest.instruments, "^IXIC": {"calendar": "XTKS"}}
    tokyo = replace(snapshot, manifest=replace(snapshot.manifest, instruments=elsewhere))
    asked = TaskOptions(symbol="^GSPC", features="s50", index="^IXIC")
    require_same_clock(asked, snapshot)
    with pytest.raises(InputError, match=r"INDEX=\^IXIC: its calendar is XTKS and that of \^GSPC is XNYS"):
        require_same_clock(asked, tokyo)


def test_trials_of_another_context_are_another_table(root: Path, sweep: Sweep, store: Store):
    run_sweep(replace(SweepOptions(store=root, **ASKED), context=40), Console(quiet=True))  # type: ignore[arg-type]
    assert [one.context_length for one in frontiers(store, None)] == [40, 60]
    assert all(len(one.baselines) == 4 for one in frontiers(store, None))
