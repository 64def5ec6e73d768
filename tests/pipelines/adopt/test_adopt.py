"""Legacy results become runs of their own kind, each once, whatever happens in between."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from analysis import adopted as adopted_table
from analysis import leaderboard, scaling
from analysis.options import LeaderboardOptions, ScalingOptions
from analysis.results.frontier import frontiers
from pipelines.adopt import adopt
from pipelines.adopt.adopt import AdoptOptions, files_of, read
from pipelines.adopt.table import rows_of, sentences
from pipelines.adopt.writer import FileResult, SourceFile
from research.errors import InputError
from research.tracking import query
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store
from tests.support.verbs import commands_to_type

LOG = """\
[1/1] Starting: hpo_1M_h5_touch_2pct.py
[I 2024-03-01 10:00:00,000] Trial 0: arch_idx=3, d_model=128, n_layers=6, params=1,216,769, lr=0.000500, batch_size=16
[I 2024-03-01 10:01:00,000] Trial 0 finished with value: 0.4123 and parameters: {'learning_rate': 0.0005000123}. \
Best is trial 0 with value: 0.4123.
[I 2024-03-01 10:01:00,000] Trial 1: arch_idx=4, d_model=128, n_layers=6, params=1,216,769, lr=0.005, batch_size=16
[I 2024-03-01 10:02:00,000] Trial 1 finished with value: 1e+02 and parameters: {'learning_rate': 0.005}. \
Best is trial 0 with value: 0.4123.
[I 2024-03-01 10:02:00,000] Trial 2: arch_idx=5, d_model=64, n_layers=2, params=120,000, lr=0.001, batch_size=16
"""
SHAPE = {"d_model": 24, "n_layers": 3, "n_heads": 4, "d_ff_ratio": 2, "learning_rate": 0.002}


def trial(number: int, auc: float) -> dict[str, Any]:
    attributes = {"val_auc": auc, "duration_sec": 3.0}
    return {"number": number, "value": auc, "state": "TrialState.COMPLETE", "params": SHAPE, "user_attrs": attributes}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "runner.log").write_text(LOG)
    (folder / "phase9_20K_h1_all_trials.json").write_text(json.dumps([trial(0, 0.6), trial(1, 0.7), trial(2, 0.7)]))
    best = {"budget": "20K", "horizon": 1, "best_trial": 1, "best_value": 0.7, "best_params": SHAPE}
    (folder / "phase9_20K_h1_best_params.json").write_text(json.dumps(best))
    (folder / "notes.txt").write_text("nothing of interest")
    return folder


def bring_in(folder: Path, store: Store) -> dict[str, FileResult]:
    sources = [one for one in map(read, files_of((folder,))) if isinstance(one, SourceFile)]
    return {one.source.name: one for one in adopt.adopt(sources, store)}


def adopted(store: Store) -> pd.DataFrame:
    return query.runs(store, kinds=("trial",), adopted=True)


def test_trials_become_nested_runs_of_their_own_experiment(files: Path, store_root: Path) -> None:
    store = open_store(store_root)
    bring_in(files, store)
    table = adopted(store).set_index("legacy_study")
    assert set(table["experiment"]) == {"legacy-touch-2pct", "legacy-unknown-task"}
    assert (table["outcome"] == "adopted").all()
    assert (table["status"] == "FINISHED").all()
    best = table.loc["1M_h5_touch_2pct"].set_index("number").loc[0]
    assert (best["val_loss"], best["legacy_metric"], best["legacy_outcome"]) == (0.4123, "val_loss", "complete")
    assert (best["claimed_budget"], best["claimed_horizon"], best["size_claim"]) == ("1M", "5", "within 25%")
    assert (best["n_params"], best["claimed_n_params"], best["d_ff"]) == (1_224_833, 1_216_769, 512)
    assert (best["source_file"], best["source_place"]) == ("runner.log", "line 3")
    parents = query.runs(store, kinds=("sweep",)).set_index("run_id")
    assert set(parents["outcome"]) == {"adopted"}
    assert parents.loc[best["parent_id"], "name"] == "1M_h5_touch_2pct"
    assert "horizon" not in table.columns
    assert str(files) not in table.to_csv()


def test_no_value_is_logged_under_a_name_that_is_not_its_own(files: Path, store_root: Path) -> None:
    store = open_store(store_root)
    bring_in(files, store)
    table = adopted(store)
    listed, logged = table[table["source_file"].str.endswith("json")], table[table["source_file"] == "runner.log"]
    assert listed["val_auc"].tolist() == [0.6, 0.7, 0.7]
    assert listed["val_loss"].isna().all()
    assert logged["val_loss"].dropna().tolist() == [0.4123]
    assert logged["legacy_outcome"].tolist() == ["complete", "diverged", "interrupted"]


def test_adopting_again_adopts_nothing_and_says_so(files: Path, store_root: Path) -> None:
    store = open_store(store_root)
    first = bring_in(files, store)
    assert {name: len(one.adopted) for name, one in first.items()} == {
        "runner.log": 3,
        "phase9_20K_h1_all_trials.json": 3,
        "phase9_20K_h1_best_params.json": 0,
    }
    before = adopted(store)
    (files / "copy of runner.log").write_text(LOG)
    second = bring_in(files, store)
    assert all(one.adopted == [] for one in second.values())
    pd.testing.assert_frame_equal(adopted(store), before)
    assert len(query.runs(store, kinds=("sweep",))) == 2


def test_the_best_file_is_told_to_repeat_the_list(files: Path, store_root: Path) -> None:
    sources = [read(files / f"phase9_20K_h1_{name}.json") for name in ("best_params", "all_trials")]
    results = adopt.adopt([one for one in sources if isinstance(one, SourceFile)], open_store(store_root))
    (result,) = [one for one in results if one.source.name.endswith("best_params.json")]
    told = "not adopted: 1 x repeats a trial adopted from phase9_20K_h1_all_trials.json (trial 1)"
    assert sentences(result) == [told]


@pytest.mark.parametrize("die_at", [1, 2, 6])
@pytest.mark.parametrize("method", ["create_run", "log_batch", "set_terminated"])
def test_a_killed_adoption_is_completed_exactly_once(
    method: str, die_at: int, files: Path, store_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = open_store(store_root), iter(range(1, 1000))
    real = getattr(MlflowClient, method)

    def dying(self: object, *given: Any, **named: Any) -> Any:
        if next(calls) == die_at:
            raise KeyboardInterrupt
        return real(self, *given, **named)

    monkeypatch.setattr(MlflowClient, method, dying)
    with pytest.raises(KeyboardInterrupt):
        bring_in(files, store)
    monkeypatch.undo()
    bring_in(files, open_store(store_root))
    table = adopted(store)
    whole = table[table["outcome"] == "adopted"]
    assert len(whole) == whole["adopted_fingerprint"].nunique() == 6
    assert whole["val_auc"].count() + whole["val_loss"].count() == 4
    assert not (table["status"] == "RUNNING").any()
    parents = query.runs(store, kinds=("sweep",))
    assert len(parents) == 2
    assert (parents["status"] == "FINISHED").all()
    assert sorted(parents["claimed_budget"]) == ["1M", "20K"]


def test_files_that_disagree_on_a_trial_are_named_in_report_and_store(files: Path, store_root: Path) -> None:
    store = open_store(store_root)
    bring_in(files, store)
    (files / "runner.log").write_text(LOG.replace("arch_idx=3, d_model=128", "arch_idx=7, d_model=128", 1))
    result = bring_in(files, store)["runner.log"]
    assert "line 3 disagrees with runner.log: legacy_arch_idx 3 there, 7 here" in sentences(result)
    assert adopted(store)["disputed"].dropna().tolist() == ["runner.log, line 3: legacy_arch_idx 3 there, 7 here"]


def test_the_report_counts_what_the_file_held(files: Path, store_root: Path) -> None:
    (files / "runner.log").write_text(LOG + "[I 2024-03-01 10:03:00,000] Trial 9 finished with value: 0.3 and pa\n")
    results = bring_in(files, open_store(store_root))
    (row,) = rows_of(results["runner.log"])
    assert (row.adopted, row.repeated, row.outcomes) == (3, 0, {"complete": 1, "diverged": 1, "interrupted": 1})
    assert (row.claimed, row.smallest, row.largest, row.holds, row.judged) == ("1M", 117_569, 1_224_833, 2, 3)
    assert "not adopted: 1 x a result line that is cut off or garbled (line 7)" in sentences(results["runner.log"])
    (listed,) = rows_of(results["phase9_20K_h1_all_trials.json"])
    assert (listed.metrics, listed.holds, listed.judged) == (("val_auc",), 3, 3)


def test_native_readers_never_see_adopted_trials(files: Path, store_root: Path) -> None:
    store = open_store(store_root)
    log = RunLog.start(store, experiment_id=store.experiment("native"), kind="trial", name="0", params={"d_model": 4}, tags={})
    log.finish("complete", metrics={"val_loss": 0.5})
    before = query.trials(store)
    bring_in(files, store)
    pd.testing.assert_frame_equal(query.trials(store), before)
    with pytest.raises(InputError, match="no finished trial in experiment legacy-touch-2pct"):
        frontiers(store, "legacy-touch-2pct")


def test_the_adopted_table_sets_claims_beside_counts(files: Path, store_root: Path) -> None:
    store = open_store(store_root)
    assert adopted_table.adopted_studies(store) == []
    bring_in(files, store)
    logged, listed = adopted_table.adopted_studies(store)
    assert (logged.study, logged.metric, logged.best, logged.best_size) == ("1M_h5_touch_2pct", "val_loss", 0.4123, 1_224_833)
    assert (logged.claimed_budget, logged.claimed_horizon, logged.with_value, logged.trials) == ("1M", 5, 1, 3)
    assert (logged.smallest, logged.largest, logged.within, logged.judged) == (117_569, 1_224_833, 2, 3)
    assert (listed.metric, listed.best, listed.lowest, listed.best_name) == ("val_auc", 0.7, 0.6, "0002 d24 L3 h4 ff2")
    assert adopted_table.adopted_studies(store, "legacy-unknown-task") == [listed]


def test_the_leaderboard_shows_adopted_results_only_when_asked(
    files: Path, store_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bring_in(files, open_store(store_root))
    with pytest.raises(InputError, match="no finished trial yet"):
        leaderboard.main(LeaderboardOptions(store=store_root))
    leaderboard.main(LeaderboardOptions(store=store_root, adopted=True))
    told = capsys.readouterr().out
    assert "1M_h5_touch_2pct" in told
    assert "not comparable with native ones" in told
    with pytest.raises(InputError, match="no finished trial yet"):
        scaling.main(ScalingOptions(store=store_root))


def test_one_unknown_file_does_not_stop_the_others(files: Path, store_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adopt.main(AdoptOptions(paths=(files,), store=store_root))
    told = capsys.readouterr().out
    assert "notes.txt: refused, none of the known forms" in told
    assert "adopted 6, repeated 1, not taken 0; files refused 1" in told
    assert commands_to_type(told, store_root) == ["make leaderboard ADOPTED=1", "make ui"]


def test_a_wrong_path_is_one_sentence_before_anything_is_written(files: Path, tmp_path: Path) -> None:
    store = tmp_path / "none"
    for paths, told in (
        ((files, Path("gone.log")), "PATHS=gone.log"),
        ((), "PATHS="),
        ((files / "notes.txt",), "nothing here"),
    ):
        with pytest.raises(InputError, match=told):
            adopt.main(AdoptOptions(paths=paths, store=store))
    assert not store.exists()


def test_help_shows_an_example_and_loads_no_heavy_library() -> None:
    code = (
        "import runpy, sys; sys.argv = ['tapescale', 'adopt', '--help']\n"
        "try: runpy.run_module('tapescale', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "print('LOADED', [name for name in ('torch', 'mlflow', 'optuna', 'pandas') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "examples:" in told
    assert "LOADED []" in told
