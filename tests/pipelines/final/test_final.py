"""From a candidate to a tested model, on a real store: one tiny sweep, its last training, the one look at the test days."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from analysis.backtest.predictions import backtest_input
from analysis.backtest.results import run_backtest
from analysis.options import BacktestOptions
from pipelines.final.accesses import earlier_accesses
from pipelines.final.calibration import calibration_maps, out_of_sample_validation
from pipelines.final.evaluation import open_test_set
from pipelines.final.options import EvaluateOptions, TrainOptions
from pipelines.final.rebuild import rebuild_task
from pipelines.final.table import verdicts
from pipelines.final.training import train_final
from pipelines.final.walk_forward import walk_forward_plan
from pipelines.serving.packaging import example_of
from pipelines.sweep.driver import run_sweep
from pipelines.sweep.state import Sweep
from research.errors import InputError
from research.evaluation.calibration import Method, fitted
from research.evaluation.holdout import REGIMES, BaselineComparison, TestSetAccesses
from research.evaluation.metrics import calibration_error_by_chance, logits_of
from research.evaluation.significance import Difference, diebold_mariano, paired_difference
from research.models.baselines import BASELINES
from research.task.windows import WindowDataset, WindowedData, predict_float64
from research.tracking import query, schema
from research.tracking.process_identity import DriverClaim, ProcessId
from research.tracking.query import RunRecord
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store
from tests.support.scoring_servers import as_json, ask, mlflow_serving
from tests.support.small_sweeps import options
from tests.support.verbs import commands_to_type

QUIET = Console(quiet=True)
SEEDS = (1000, 1001)


@dataclass(frozen=True, kw_only=True)
class Trained:
    sweep: Sweep
    store: Store
    final: RunRecord
    seeds: list[RunRecord]
    seen: set[int]
    """Rows whose windows and labels the last training has read."""
    challenger: str


def records(store: Store, *kinds: str) -> list[RunRecord]:
    return query.runs_of_kind(store, list(query.experiments(store)), kinds)


@pytest.fixture(scope="module")
def trained(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    root = tmp_path_factory.mktemp("final") / "mlruns"
    shutil.copytree(migrated_store, root)
    with patch("pipelines.trial.figures.save"):
        with patch("pipelines.sweep.driver.BASELINES", {"prior": BASELINES["prior"]}):
            sweep = run_sweep(options(root, trials=2, epochs=2), QUIET)
        store = open_store(root)
        challenger = store.client.get_model_version_by_alias("sp500-threshold-1pct-2K-h1", schema.CHALLENGER).version
        seen: set[int] = set()
        real = WindowDataset.gather

        def gather(dataset: WindowDataset, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            seen.update(rows.reshape(-1).tolist())
            return real(dataset, rows)

        with patch.object(WindowDataset, "gather", gather):
            run_id = train_final(store, TrainOptions(budget="2K", seeds=2, device="cpu", threads=1, store=root), QUIET)
        (final,) = records(store, "final")
        assert final.run_id == run_id
        yield Trained(
            sweep=sweep, store=store, final=final, seeds=records(store, "final_seed"), seen=seen, challenger=challenger
        )


@pytest.fixture(scope="module")
def evaluated(trained: Trained) -> RunRecord:
    """The first look, during which the run that says so must be there before any model has answered."""

    def watched(*arguments: object) -> object:
        (opened,) = records(trained.store, "evaluation")
        assert opened.status == "RUNNING"
        return predict_float64(*arguments)  # type: ignore[arg-type]

    with patch("pipelines.final.predictions.predict_float64", watched):
        run_id = open_test_set(trained.store, asked(trained), QUIET)
    (run,) = records(trained.store, "evaluation")
    assert run.run_id == run_id
    return run


def asked(trained: Trained, **changes: object) -> EvaluateOptions:
    return EvaluateOptions(**{"budget": "2K", "store": trained.store.root, **changes})  # type: ignore[arg-type]


def said(trained: Trained, run: RunRecord) -> pd.DataFrame:
    return pd.read_parquet(trained.store.local_artifact(run.run_id, schema.TEST_PREDICTIONS_FILE))


def test_what_was_chosen_is_what_is_trained(trained: Trained) -> None:
    best = trained.sweep.best
    assert best is not None
    (trial,) = [run for run in records(trained.store, "trial") if run.run_id == best.run_id]
    assert trained.final.tags[schema.TRAINED_FROM] == best.run_id
    assert [run.params["seed"] for run in trained.seeds] == list(SEEDS)
    for run in (trained.final, *trained.seeds):
        assert run.metrics["n_params"] == trial.metrics["n_params"] == best.n_parameters
        assert run.params["epochs_trained"] == trial.metrics["best_epoch"]
        unseeded = {name: value for name, value in trial.params.items() if name not in ("seed", "number")}
        assert unseeded.items() <= run.params.items()
        for tag in (schema.SNAPSHOT_DIGEST, schema.FEATURE_DIGEST, schema.TARGET_DIGEST, schema.CONFIG_FINGERPRINT):
            assert run.tags[tag] == trial.tags[tag]
        assert run.outcome == "complete"
    weights = [trained.store.local_artifact(run.run_id, schema.SEED_WEIGHTS).read_bytes() for run in trained.seeds]
    assert weights[0] != weights[1]


def test_all_rows_before_the_test_are_trained_on_and_none_that_touches_it(trained: Trained) -> None:
    prepared = trained.sweep.context.task.prepared
    rows = np.array(sorted(trained.seen))
    assert np.array_equal(rows, np.union1d(prepared.split.train, prepared.split.validation))
    assert prepared.label_ends(rows).max() < prepared.days[prepared.split.test].min()
    assert {run.metrics["n_train_windows"] for run in trained.seeds} == {len(rows)}


def test_the_ensemble_is_a_new_version_and_the_alias_stays(trained: Trained) -> None:
    name = "sp500-threshold-1pct-2K-h1"
    held = trained.store.client.get_model_version_by_alias(name, schema.CHALLENGER)
    versions = trained.store.client.search_model_versions(f"name='{name}'")
    assert held.version == trained.challenger
    assert {one.run_id for one in versions if one.version != held.version} == {trained.final.run_id}


def test_the_registered_ensemble_gives_the_mean_of_its_seeds_from_raw_bars(trained: Trained, evaluated: RunRecord) -> None:
    (version,) = trained.store.client.search_model_versions(f"run_id='{trained.final.run_id}'")
    served = mlflow.pyfunc.load_model(version.source).predict(example_of(trained.sweep.context.task, days=5000))
    table = said(trained, evaluated)
    seeds = table[[f"seed_{seed}" for seed in SEEDS]].to_numpy()
    answers = served.set_index("date").loc[table["date"].dt.strftime("%Y-%m-%d")]
    assert answers["probability"].to_numpy() == pytest.approx(seeds.mean(axis=1), abs=1e-6)
    assert list(answers.columns) == ["probability", "low", "high"]
    between = (answers["low"] < answers["probability"]) & (answers["probability"] < answers["high"])
    assert between.all()
    assert np.abs(seeds[:, 0] - seeds[:, 1]).max() > 1e-4


def test_the_interval_over_seeds_holds_about_what_it_says(trained: Trained, evaluated: RunRecord) -> None:
    table, half = said(trained, evaluated), trained.final.metrics["seed_interval_half_width"]
    one, other = (logits_of(table[f"seed_{seed}"].to_numpy()) for seed in SEEDS)
    # Between two seeds lie two seeds' noise; between one seed and the mean of two, one and a half.
    share = (np.abs(one - other) <= half * np.sqrt(2 / 1.5)).mean()
    assert evaluated.metrics["seed_interval_coverage"] == pytest.approx(share, abs=1e-12)
    assert 0.7 < share <= 1


def test_each_seed_is_registered_as_a_model_of_its_own(trained: Trained, evaluated: RunRecord) -> None:
    versions = trained.store.client.search_model_versions("name='sp500-threshold-1pct-2K-h1-seeds'")
    assert {one.run_id for one in versions} == {run.run_id for run in trained.seeds}
    assert all(not one.aliases for one in versions)
    table, days = said(trained, evaluated), example_of(trained.sweep.context.task, days=5000)
    for run in trained.seeds:
        (version,) = [one for one in versions if one.run_id == run.run_id]
        served = mlflow.pyfunc.load_model(version.source).predict(days).set_index("date")
        assert list(served.columns) == ["probability"]
        given = served["probability"][table["date"].dt.strftime("%Y-%m-%d")].to_numpy()
        assert given == pytest.approx(table[f"seed_{run.params['seed']}"].to_numpy(), abs=1e-6)


def test_the_same_training_is_not_done_twice(trained: Trained) -> None:
    options = TrainOptions(run=trained.final.tags[schema.TRAINED_FROM][:10], seeds=2, device="cpu", store=trained.store.root)
    told = io.StringIO()
    with patch("pipelines.final.seed_run.FixedLengthTrainer", side_effect=AssertionError("trained again")):
        assert train_final(trained.store, options, Console(file=told, width=80)) == trained.final.run_id
    assert commands_to_type(told.getvalue(), trained.store.root) == [f"make evaluate RUN={trained.final.run_id[:12]}"]


def test_a_model_without_code_of_its_own_is_trained_again(trained: Trained) -> None:
    options = TrainOptions(run=trained.final.tags[schema.TRAINED_FROM], seeds=2, device="cpu", store=trained.store.root)
    (package,) = (trained.store.local_artifact(trained.final.run_id, schema.MODEL_FOLDER) / "code").glob(f"{schema.OWN_CODE}*")
    old = package.rename(package.with_name("research"))
    try:
        with patch("pipelines.final.training._start_run", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            train_final(trained.store, options, QUIET)
    finally:
        old.rename(package)


def test_a_training_that_is_stopped_leaves_closed_runs_and_registers_nothing(trained: Trained) -> None:
    options = TrainOptions(budget="2K", seeds=1, device="cpu", store=trained.store.root)
    with patch("pipelines.final.seed_run.save_weights", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        train_final(trained.store, options, QUIET)
    stopped, seed = records(trained.store, "final")[1], records(trained.store, "final_seed")[-1]
    assert stopped.outcome == seed.outcome == "interrupted"
    assert seed.tags[schema.PARENT] == stopped.run_id
    assert len(trained.store.client.search_model_versions("name='sp500-threshold-1pct-2K-h1'")) == 2


def test_other_labels_than_those_of_the_trial_are_refused(trained: Trained) -> None:
    options = TrainOptions(budget="2K", seeds=1, device="cpu", store=trained.store.root)
    with (
        patch.object(WindowedData, "target_digest", "0123456789abcdef"),
        pytest.raises(InputError, match=r"target_digest=.*0123456789abcdef"),
    ):
        train_final(trained.store, options, QUIET)
    assert len([run for run in records(trained.store, "final") if run.outcome == "complete"]) == 1


def test_metrics_are_those_of_the_stored_predictions(trained: Trained, evaluated: RunRecord) -> None:
    table, metrics = said(trained, evaluated), evaluated.metrics
    p, y = table["probability"].to_numpy(), table["label"].to_numpy()
    losses = -np.where(y == 1, np.log(p), np.log1p(-p))
    rate = trained.sweep.context.task.prepared
    known = rate.labels[np.union1d(rate.split.train, rate.split.validation)].mean()
    assert len(table) == len(rate.split.test) == metrics["test_n"]
    assert metrics["test_loss"] == pytest.approx(losses.mean(), abs=1e-12)
    assert metrics["test_brier"] == pytest.approx(np.mean((p - y) ** 2), abs=1e-12)
    assert metrics["vs_prior/loss"] == pytest.approx(-(y * np.log(known) + (1 - y) * np.log(1 - known)).mean(), abs=1e-9)
    assert metrics["test_skill"] == pytest.approx(1 - losses.mean() / metrics["vs_prior/loss"], abs=1e-9)
    assert metrics["test_ece_by_chance"] == pytest.approx(calibration_error_by_chance(p), abs=1e-12)
    assert metrics["test_calibration_bias"] == pytest.approx(p.mean() - y.mean(), abs=1e-12)
    regression = LogisticRegression(C=np.inf, tol=1e-10).fit(table[["logit"]], y)
    assert metrics["test_calibration_slope"] == pytest.approx(regression.coef_[0, 0], rel=1e-4)
    for name in ("test_calibration_slope", "test_calibration_bias"):
        assert metrics[f"{name}_low"] < metrics[name] < metrics[f"{name}_high"]
    assert metrics["test_auc_low"] < metrics["test_auc"] < metrics["test_auc_high"]
    years = table["date"].dt.year.to_numpy()
    for year in range(2015, 2019):
        assert metrics[f"year_{year}/loss"] == pytest.approx(losses[years == year].mean(), abs=1e-9)
    assert sum(metrics[f"regime_{name}/n"] for name in REGIMES) == len(table)
    assert metrics["regime_calm/base_rate"] < metrics["regime_stormy/base_rate"]


@pytest.mark.parametrize(
    ("low", "high", "dm_p", "ends"),
    [
        (-0.02, -0.001, 0.01, "against the logistic regression: better than it"),
        (-0.02, -0.001, 0.2, "better than it, but not significant by the Diebold-Mariano test (p 0.200)"),
        (-0.02, 0.001, 0.01, "better than it, but inside the noise"),
    ],
)
def test_a_reference_is_beaten_only_where_both_tests_say_so(low: float, high: float, dm_p: float, ends: str) -> None:
    it = BaselineComparison(loss=0.4, difference=Difference(mean=-0.01, low=low, high=high), dm_p=dm_p, skill=0.02, auc=0.7)
    (sentence,) = verdicts({"logistic": it})
    assert sentence.endswith(ends)


def test_baselines_are_fitted_again_and_their_distance_has_an_interval(trained: Trained, evaluated: RunRecord) -> None:
    table, metrics = said(trained, evaluated), evaluated.metrics
    y = table["label"].to_numpy()
    mine, its = (-np.where(y == 1, np.log(p), np.log1p(-p)) for p in (table["probability"], table["logistic"]))
    expected = paired_difference(mine, its)
    found = [metrics[f"vs_logistic/{name}"] for name in ("difference", "low", "high")]
    assert found == pytest.approx([expected.mean, expected.low, expected.high], abs=1e-9)
    assert expected.low < expected.mean < expected.high
    assert metrics["vs_logistic/dm_p"] == pytest.approx(diebold_mariano(mine, its, 1).p_value, abs=1e-9)
    prepared = trained.sweep.context.task.prepared
    rows = np.union1d(prepared.split.train, prepared.split.validation)
    scale = prepared.values[np.arange(rows.min() - 59, rows.max() + 1)]
    values = (prepared.values - scale.mean(axis=0)) / scale.std(axis=0)
    fitted = LogisticRegression(C=0.1, max_iter=5000).fit(values[rows], prepared.labels[rows])
    by_hand = fitted.predict_proba(values[prepared.split.test])[:, 1]
    assert table["logistic"].to_numpy() == pytest.approx(by_hand, abs=1e-3)


def test_a_second_look_is_refused_and_marked_where_it_is_insisted_on(trained: Trained, evaluated: RunRecord) -> None:
    assert schema.SECOND_LOOK not in evaluated.tags
    assert evaluated.tags[schema.LOOKS_BEFORE] == "0"
    with pytest.raises(InputError, match="AGAIN=1"):
        open_test_set(trained.store, asked(trained), QUIET)
    assert len(records(trained.store, "evaluation")) == 1
    killed = patch("pipelines.final.evaluation.holdout_predictions", side_effect=KeyboardInterrupt)
    with killed, pytest.raises(KeyboardInterrupt):
        open_test_set(trained.store, asked(trained, budget="", run=trained.final.run_id[:8], again=True), QUIET)
    again = records(trained.store, "evaluation")[1]
    assert again.tags[schema.SECOND_LOOK] == "1 before"
    assert again.outcome == "interrupted"
    told = io.StringIO()
    with patch("pipelines.final.evaluation.note_tested") as noted:
        open_test_set(trained.store, asked(trained, again=True), Console(file=told, width=110))
    # It takes no alias, even where the first one came to nothing.
    noted.assert_not_called()
    assert "SECOND LOOK: this model was evaluated on these days 2 times before" in told.getvalue()
    # 881 test days hold blocks of 60; the area is told with their interval.
    metrics = evaluated.metrics
    assert "blocks of 60;" in told.getvalue()
    assert f"{metrics['test_auc']:.3f} [{metrics['test_auc_low']:.3f}, {metrics['test_auc_high']:.3f}]" in told.getvalue()
    promote = f"make promote RUN={trained.final.run_id[:12]}"
    assert commands_to_type(told.getvalue(), trained.store.root) == [promote, "make ui", "make compare"]


def test_days_that_were_seen_before_are_counted_whatever_the_snapshot(trained: Trained, evaluated: RunRecord) -> None:
    before = earlier_accesses(trained.store, trained.final)
    assert before.same > 0
    anew = {schema.SNAPSHOT_DIGEST: "one more bar", schema.TARGET_DIGEST: "one more label"}
    sibling = replace(trained.final, run_id="other seeds", tags={**trained.final.tags, **anew})
    assert earlier_accesses(trained.store, sibling) == TestSetAccesses(same=0, related=before.same, any=before.any)
    stranger = replace(sibling, tags={**sibling.tags, schema.CONFIG_FINGERPRINT: "another"})
    assert earlier_accesses(trained.store, stranger) == TestSetAccesses(same=0, related=0, any=before.any)
    closed = {"validation_end": "2018-12-31", "test_end": "2022-12-31"}
    for other in ({"threshold": 0.02}, closed):
        assert earlier_accesses(trained.store, replace(stranger, params={**trained.final.params, **other})).any == 0


def test_a_look_that_was_deleted_was_a_look(trained: Trained, evaluated: RunRecord) -> None:
    before = earlier_accesses(trained.store, trained.final)
    trained.store.client.delete_run(evaluated.run_id)
    try:
        assert earlier_accesses(trained.store, trained.final) == before
        with pytest.raises(InputError, match="its test days have been opened"):
            open_test_set(trained.store, asked(trained), QUIET)
    finally:
        trained.store.client.restore_run(evaluated.run_id)


def test_looks_of_other_questions_are_counted_by_day_and_instrument(trained: Trained, evaluated: RunRecord) -> None:
    """A later horizon or another threshold finds its test days opened; other days and other instruments are not."""
    store, mine = trained.store, trained.final.params
    number = earlier_accesses(store, trained.final).any

    def others(experiment: str = "", **params: object) -> dict[str, int]:
        asks = replace(trained.final, params={**mine, **params}, experiment_id=experiment or trained.final.experiment_id)  # type: ignore[dict-item]
        return dict(earlier_accesses(store, asks).others)

    assert others() == {}
    seen = {"sp500-threshold-1pct h1": number}
    assert others(horizon=3) == others("another", threshold=0.02) == others("another", validate_on="AAPL,^GSPC") == seen
    assert others(horizon=3, validation_end="2018-12-31", test_end="2022-12-31") == others("another", validate_on="SPY") == {}


def test_an_evaluation_says_which_other_questions_opened_its_days(trained: Trained, evaluated: RunRecord) -> None:
    assert evaluated.tags[schema.LOOKS_OTHER] == "0"
    store, told = trained.store, io.StringIO()
    log = RunLog.start(
        store,
        experiment_id=store.experiment("sp500-threshold-2pct"),
        kind="evaluation",
        name="evaluation",
        params={**evaluated.params, "threshold": 0.02, "horizon": 3},
        tags={schema.FINAL_RUN: "another"},
    )
    log.finish("complete")
    with patch("pipelines.trial.figures.save"):
        run_id = open_test_set(store, asked(trained, again=True), Console(file=told, width=110))
    assert "other questions have opened these test days once before: sp500-threshold-2pct h3 (1);" in told.getvalue()
    tags = store.client.get_run(run_id).data.tags
    assert (tags[schema.LOOKS_OTHER], tags[schema.QUESTIONS_BEFORE]) == ("1", "sp500-threshold-2pct h3 (1)")


def test_what_a_look_needs_is_read_before_the_days_are_opened(trained: Trained, evaluated: RunRecord) -> None:
    """Weights that are gone, or code that has moved on, must not use up the look."""
    looks = len(records(trained.store, "evaluation"))
    for needed in ("seed_models", "calibration_maps", "chosen_thresholds", "walk_forward_plan"):
        with (
            patch(f"pipelines.final.evaluation.{needed}", side_effect=InputError("gone")),
            pytest.raises(InputError, match="gone"),
        ):
            open_test_set(
                trained.store, asked(trained, again=True, walk_forward=True, budget="", run=trained.final.run_id), QUIET
            )
    assert len(records(trained.store, "evaluation")) == looks


def test_a_look_says_whose_process_it_is(evaluated: RunRecord) -> None:
    assert DriverClaim.read(evaluated.tags[schema.OWNER]).process == ProcessId.mine()


def test_a_backtest_takes_the_evaluation_and_its_thresholds(trained: Trained, evaluated: RunRecord) -> None:
    found = backtest_input(trained.store, BacktestOptions(budget="2K", store=trained.store.root))
    assert (found.run.run_id, found.split) == (evaluated.run_id, "test")
    assert backtest_input(trained.store, BacktestOptions(run=trained.final.run_id)).run.run_id == evaluated.run_id
    told = run_backtest(trained.store, found, cost=0.0, enter="top tenth")
    assert told.threshold == evaluated.metrics["at_top_tenth/threshold"]
    assert told.strategies["model"].entries == evaluated.metrics["at_top_tenth/said_yes"]
    assert told.strategies["volatility, equal entries"].entries == told.strategies["model"].entries
    # Test days chose nothing, but all trials of the study deflate.
    assert (told.trials, told.trials_read) == (2, 2)


def answered_otherwise(model: str, bars: pd.DataFrame) -> pd.DataFrame:
    """What a registered model answers by day, with other batches and threads than an evaluation has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with patch("research.task.windows.EVALUATION_BATCH", 37):
            return mlflow.pyfunc.load_model(model).predict(bars).set_index("date")
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("method", [pytest.param("temperature", marks=pytest.mark.slow), "isotonic"])
def test_a_calibrated_ensemble_answers_as_its_evaluation_says(trained: Trained, evaluated: RunRecord, method: Method) -> None:
    options = TrainOptions(budget="2K", seeds=2, calibration=method, device="cpu", threads=1, store=trained.store.root)
    final_id = train_final(trained.store, options, QUIET)
    assert final_id != trained.final.run_id
    (final,) = [run for run in records(trained.store, "final") if run.run_id == final_id]
    assert final.params["calibration"] == method
    told = io.StringIO()
    evaluation_id = open_test_set(trained.store, asked(trained, budget="", run=final_id), Console(file=told, width=110))
    # A map that is chosen after a look at what it would do has seen the test.
    assert "NO FRESH TEST: this configuration was evaluated on these days" in told.getvalue()
    (run,) = [one for one in records(trained.store, "evaluation") if one.run_id == evaluation_id]
    table = said(trained, run)
    (version,) = trained.store.client.search_model_versions(f"run_id='{final_id}'")
    answers = answered_otherwise(version.source, example_of(trained.sweep.context.task, days=5000))
    given = answers["probability"][table["date"].dt.strftime("%Y-%m-%d")].to_numpy()
    assert given == pytest.approx(table["probability"].to_numpy(), abs=1e-6, rel=0)
    assert (answers["low"] <= answers["probability"]).all()
    assert (answers["probability"] <= answers["high"]).all()
    mapped = fitted(method, *out_of_sample_validation(trained.store, final.experiment_id, final.tags[schema.TRAINED_FROM]))
    means = table[[f"seed_{seed}" for seed in SEEDS]].mean(axis=1).to_numpy()
    assert table["probability"].to_numpy() == pytest.approx(expit(mapped(logits_of(means))), abs=1e-9)
    assert table["calibration_none"].to_numpy() == pytest.approx(means, abs=1e-9)
    losses = [-np.where(table["label"] == 1, np.log(p), np.log1p(-p)) for p in (table["probability"], means)]
    expected = paired_difference(losses[0], losses[1])
    found = [run.metrics[f"calibration_{method}/{name}"] for name in ("difference", "low", "high")]
    assert found == pytest.approx([expected.mean, expected.low, expected.high], abs=1e-9)
    assert run.metrics["test_loss"] == run.metrics[f"calibration_{method}/loss"] != run.metrics["calibration_none/loss"]
    assert run.metrics["test_calibration_slope"] == run.metrics[f"calibration_{method}/slope"]
    # Replicates that came later would fit another map; what is trained again carries that of the final run.
    later = (np.array([-9.0, 0.1, 0.2, 0.3]), np.array([1, 0, 1, 0], dtype=np.int8))
    with patch("pipelines.final.plan.out_of_sample_validation", return_value=later):
        maps, reproduced = calibration_maps(trained.store, final), rebuild_task(trained.store, final)
        assert walk_forward_plan(trained.store, final, maps, reproduced).seeds == SEEDS


@pytest.mark.slow
def test_mlflows_own_server_gives_the_probabilities_of_the_evaluation_through_a_steep_map(trained: Trained) -> None:
    options = TrainOptions(budget="2K", seeds=1, calibration="isotonic", device="cpu", threads=1, store=trained.store.root)
    final_id = train_final(trained.store, options, QUIET)
    evaluation_id = open_test_set(trained.store, asked(trained, budget="", run=final_id), QUIET)
    table = pd.read_parquet(trained.store.local_artifact(evaluation_id, schema.TEST_PREDICTIONS_FILE))
    model = trained.store.local_artifact(final_id, schema.MODEL_FOLDER)
    with mlflow_serving(trained.store, str(model), threads=2) as address:
        status, told = ask(address, as_json(example_of(trained.sweep.context.task, days=5000)))
    assert status == 200
    remote = pd.DataFrame(told["predictions"]).set_index("date")["probability"]
    days = table["date"].dt.strftime("%Y-%m-%d")
    assert remote[days].to_numpy() == pytest.approx(table["probability"].to_numpy(), abs=1e-6, rel=0)
