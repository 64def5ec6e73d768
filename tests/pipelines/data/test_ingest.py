"""`make data` on the real Yahoo client and a store of its own, from first bars to a sweep on what they became."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import Run

from pipelines.data import snapshot_run
from pipelines.data.ingest import main
from pipelines.data.load_task import ingest
from pipelines.data.options import IngestOptions
from pipelines.data.snapshot_run import record
from pipelines.data.table import describe_change
from research.data import snapshots
from research.data.data_sets import read_data_set
from research.data.revisions import Change
from research.data.sources import SourceBars
from research.errors import InputError
from research.tracking import schema
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store
from tests.conftest import random_bars
from tests.support.small_sweeps import run
from tests.support.verbs import commands_to_type
from tests.support.yahoo_server import TOO_MANY, YahooServer, fresh_yahoo, session_bars

HISTORY = session_bars("2010-01-04", "2018-12-31")
VOLATILITY = session_bars("2010-01-04", "2018-12-31", seed=2, price=15.0)
KNOWN = len(HISTORY) - 10
REVISED, LOST, DIVIDEND = (f"{HISTORY.index[place]:%Y-%m-%d}" for place in (KNOWN - 5, KNOWN - 8, KNOWN + 4))


@pytest.fixture
def yahoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[YahooServer]:
    with fresh_yahoo(monkeypatch) as server:
        list_symbols(server, HISTORY.iloc[:KNOWN], VOLATILITY.iloc[:KNOWN], {"2016-03-18": 1.2})
        yield server


def list_symbols(server: YahooServer, spy: pd.DataFrame, vix: pd.DataFrame, dividends: dict[str, float]) -> None:
    server.add("SPY", spy, kind="ETF", exchange="PCX", dividends=dividends, jitter=True)
    server.add("^VIX", vix, kind="INDEX", exchange="WCB")


def let_time_pass(server: YahooServer) -> None:
    """Ten new sessions, one with a dividend; a close was revised and a session is missing."""
    spy = HISTORY.copy()
    spy.loc[REVISED, "close"] = spy.loc[REVISED, ["low", "high"]].mean().round(2)
    list_symbols(server, spy.drop(pd.Timestamp(LOST)), VOLATILITY, {"2016-03-18": 1.2, DIVIDEND: 0.4})


def make_data(root: Path, **options: object) -> None:
    main(IngestOptions(store=root, **options))  # type: ignore[arg-type]


def stored(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "snapshots").glob("[!.]*"))


def snapshot_runs(root: Path) -> list[Run]:
    """Oldest first."""
    store = open_store(root)
    found = store.client.search_runs([store.experiment(schema.SNAPSHOT_EXPERIMENT)], order_by=["attributes.start_time"])
    return list(found)


def test_three_calls_take_in_find_nothing_and_list_what_changed(
    yahoo: YahooServer, store_root: Path, capsys: pytest.CaptureFixture[str]
):
    make_data(store_root, symbols="SPY,^VIX", start=date(2010, 1, 4))
    first = read_data_set("spy-vix", store_root / "snapshots")
    assert first is not None
    assert f"spy-vix: first snapshot {first.digest}" in capsys.readouterr().out

    make_data(store_root, data="spy-vix")
    printed = capsys.readouterr().out
    assert f"fetching   yahoo: SPY,^VIX from {HISTORY.index[KNOWN - 31]:%Y-%m-%d}\n" in printed
    assert f"spy-vix: nothing changed, snapshot is still {first.digest}" in printed
    assert read_data_set("spy-vix", store_root / "snapshots") == first
    assert len(snapshot_runs(store_root)) == 1

    let_time_pass(yahoo)
    make_data(store_root, symbols="SPY,^VIX")
    printed = capsys.readouterr().out
    second = read_data_set("spy-vix", store_root / "snapshots")
    assert second is not None
    assert f"spy-vix: snapshot {second.digest}, replaces {first.digest}" in printed
    old, new = HISTORY.loc[REVISED, "close"], HISTORY.loc[REVISED, ["low", "high"]].mean().round(2)
    assert f"SPY {REVISED} close {old:g} -> {new:g}\n" in printed
    assert f"SPY {LOST} close {HISTORY.loc[LOST, 'close']:g} -> none; missing at the source, kept\n" in printed
    assert f"SPY {DIVIDEND} dividends 0 -> 0.4\n" in printed
    assert commands_to_type(printed, store_root) == ["make sweep DATA=spy-vix SYMBOL=SPY"]
    assert stored(store_root) == sorted([first.digest, second.digest, "spy-vix.json"])

    grown = ingest("spy-vix", open_store(store_root)).of("SPY")
    assert list(grown.index) == list(HISTORY.index)
    assert grown.loc[REVISED, "close"] == new
    assert grown.loc[LOST, "close"] == HISTORY.loc[LOST, "close"]
    assert grown["dividends"][grown["dividends"] > 0].to_dict() == {
        pd.Timestamp("2016-03-18"): 1.2,
        pd.Timestamp(DIVIDEND): 0.4,
    }


def test_the_snapshots_run_says_what_it_is_and_what_changed(yahoo: YahooServer, store_root: Path):
    make_data(store_root, symbols="SPY,^VIX")
    let_time_pass(yahoo)
    make_data(store_root, data="spy-vix")
    first, second = snapshot_runs(store_root)
    assert second.data.tags[schema.PARENT_DIGEST] == first.data.tags[schema.SNAPSHOT_DIGEST]
    assert second.data.tags[schema.DATA_SET] == "spy-vix"
    assert schema.PARENT_DIGEST not in first.data.tags
    assert second.data.params["symbols"] == "SPY,^VIX"
    told = {name: second.data.metrics[name] for name in ("n_symbols", "n_appended", "n_revised", "n_vanished", "n_warnings")}
    assert told == {"n_symbols": 2, "n_appended": 20, "n_revised": 1, "n_vanished": 1, "n_warnings": 2}
    store = open_store(store_root)
    manifest = json.loads(store.local_artifact(second.info.run_id, schema.MANIFEST_FILE).read_text())
    assert manifest["digest"] == second.data.tags[schema.SNAPSHOT_DIGEST]
    with store.local_artifact(second.info.run_id, schema.CHANGES_FILE).open() as file:
        rows = [(row["kind"], row["symbol"], row["day"]) for row in csv.DictReader(file)]
    assert rows == [("vanished", "SPY", LOST), ("revised", "SPY", REVISED), ("dividend", "SPY", DIVIDEND)]


@pytest.mark.slow
def test_the_command_line_ends_with_a_snapshot_that_a_sweep_runs_on(store_root: Path):
    with YahooServer() as server:
        environment = {**os.environ, "TAPESCALE_YAHOO": server.url}

        def command(*flags: str) -> str:
            line = [sys.executable, "-m", "tapescale", "data", "--store", str(store_root), *flags]
            ran = subprocess.run(line, env=environment, capture_output=True, text=True)
            assert (ran.returncode, ran.stderr) == (0, "")
            return ran.stdout

        list_symbols(server, HISTORY.iloc[:KNOWN], VOLATILITY.iloc[:KNOWN], {"2016-03-18": 1.2})
        assert "pair: first snapshot" in command("--symbols", "SPY,^VIX", "--name", "pair")
        assert "pair: nothing changed" in command("--data", "pair")
        let_time_pass(server)
        printed = command("--data", "pair")
        for change in (f"revised    SPY {REVISED}", f"vanished   SPY {LOST}", f"dividend   SPY {DIVIDEND}"):
            assert change in printed
    split = {"train_end": date(2014, 12, 31), "validation_end": date(2016, 12, 31), "test_end": date(2018, 12, 31)}
    sweep = run(store_root, data="pair", symbol="SPY", **split)
    data_set = read_data_set("pair", store_root / "snapshots")
    assert data_set is not None
    assert sweep.context.task.snapshot.digest == data_set.digest
    assert len(data_set.history) == 2


def test_a_failed_fetch_leaves_nothing(yahoo: YahooServer, store_root: Path):
    for symbols in ("SPY,NOPE", "NOPE"):
        with pytest.raises(InputError, match="NOPE: unknown symbol"):
            make_data(store_root, symbols=symbols)
    list_symbols(yahoo, HISTORY.drop(pd.Timestamp("2015-06-03")), VOLATILITY, {})
    with pytest.raises(InputError, match="2015-06-03"):
        make_data(store_root, symbols="SPY")
    assert stored(store_root) == []
    assert snapshot_runs(store_root) == []


def test_a_run_that_cannot_be_finished_does_not_stay_open_and_is_written_the_next_time(
    store_root: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    store = open_store(store_root)
    with monkeypatch.context() as patched:
        patched.setattr(snapshot_run, "_write_files", fail)
        with pytest.raises(OSError, match="no space"):
            ingest("bundled", store)
    assert [run.info.status for run in snapshot_runs(store_root)] == ["FAILED"]
    ingest("bundled", store)
    ingest("bundled", store)
    assert [run.info.status for run in snapshot_runs(store_root)] == ["FAILED", "FINISHED"]


def test_a_run_whose_writer_was_killed_is_closed_by_the_next_one(store_root: Path, monkeypatch: pytest.MonkeyPatch):
    store = open_store(store_root)
    with monkeypatch.context() as patched:
        patched.setattr(RunLog, "finish", lambda *_, **__: None)
        ingest("bundled", store)
    assert [run.info.status for run in snapshot_runs(store_root)] == ["RUNNING"]
    ingest("bundled", store)
    assert [run.info.status for run in snapshot_runs(store_root)] == ["KILLED", "FINISHED"]


def test_known_bars_are_neither_validated_nor_recorded_again(store_root: Path, monkeypatch: pytest.MonkeyPatch):
    store = open_store(store_root)
    first = ingest("bundled", store)
    monkeypatch.setattr(snapshots, "validate", None)
    monkeypatch.setattr(snapshot_run, "_write", None)
    assert ingest("bundled", store).digest == ingest(first.digest[:6], store).digest == first.digest == "e56348962ae6f5b4"


def test_a_sweeps_data_never_come_over_the_network(store_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with fresh_yahoo(monkeypatch) as server:
        server.add("SPY", HISTORY, kind="ETF", exchange="PCX")
        make_data(store_root, symbols="SPY")
        seen = len(server.seen)
        store = open_store(store_root)
        ingest("spy", store)
        random_bars(1, 60).to_csv(tmp_path / "abc.csv")
        assert list(ingest(str(tmp_path / "abc.csv"), store).bars) == ["ABC"]
        assert list(ingest("synthetic:bars=300", store).bars) == ["SYNTHETIC"]
        with pytest.raises(InputError, match="DATA=yahoo"):
            ingest("yahoo", store)
        assert len(server.seen) == seen


def test_a_file_becomes_a_data_set_that_follows_it(store_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bars = random_bars(1, 60)
    bars.iloc[:50].to_csv(tmp_path / "prices.csv")
    make_data(store_root, data=str(tmp_path / "prices.csv"), kind="stock")
    bars.to_csv(tmp_path / "prices.csv")
    make_data(store_root, data="prices")
    assert commands_to_type(capsys.readouterr().out, store_root) == ["make sweep DATA=prices SYMBOL=PRICES"]
    snapshot = ingest("prices", open_store(store_root))
    assert snapshot.manifest.changes["PRICES"]["appended"] == 10
    assert snapshot.manifest.instruments["PRICES"]["kind"] == "stock"
    assert str(tmp_path) not in json.dumps(snapshot.manifest.request)


def test_a_corrupted_snapshot_is_refused_by_name_and_by_digest(yahoo: YahooServer, store_root: Path):
    make_data(store_root, symbols="SPY")
    (digest,) = (name for name in stored(store_root) if not name.endswith(".json"))
    (store_root / "snapshots" / digest / snapshots.BARS_FILE).write_bytes(b"PAR1")
    for data in ("spy", digest):
        with pytest.raises(InputError, match=rf"DATA={digest}: the snapshot .* delete"):
            ingest(data, open_store(store_root))
    shutil.rmtree(store_root / "snapshots" / digest)
    make_data(store_root, data="spy")
    assert ingest("spy", open_store(store_root)).digest == digest


def test_a_wait_for_the_vendor_is_printed(
    yahoo: YahooServer, store_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("research.data.yahoo.client.RetryPolicy.seconds", lambda *_: 0.0)
    yahoo.answer("SPY", TOO_MANY, times=2)
    make_data(store_root, symbols="SPY", start=date(2018, 1, 2))
    printed = capsys.readouterr().out
    assert "fetching   yahoo: SPY from 2018-01-02\n" in printed
    assert "waiting    SPY: rate limit (HTTP 429: Too Many Requests); retrying in " in printed
    assert "spy: first snapshot" in printed


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (Change(symbol="SPY", day="2020-08-31", kind="rescaled", column="prices", old=1.0, new=0.25),
         "SPY all prices before 2020-08-31 x 0.25, volume / 0.25"),
        (Change(symbol="SPY", day="2020-08-31", kind="filled", column="close", old=None, new=1234.5),
         "SPY 2020-08-31 close none -> 1,234.5"),
        (Change(symbol="SPY", day="2020-08-30", kind="dropped", column="close", old=12.0, new=None),
         "SPY 2020-08-30 close 12 -> none; missing at the source, dropped"),
    ],
)  # fmt: skip
def test_a_change_is_one_sentence(change: Change, sentence: str):
    assert describe_change(change) == sentence


def test_two_recordings_of_one_snapshot_are_one_run(store_root: Path, monkeypatch: pytest.MonkeyPatch):
    bars = SourceBars(source="made", bars={"EURUSD=X": random_bars(1, 30)}, request={}, licence="none")
    snapshot = snapshots.write_snapshot(bars, store_root / "snapshots")
    store: Store = open_store(store_root)
    record(snapshot, store, "fx")
    record(snapshot, store, "other")
    real, asked = snapshot_run._runs, []

    def too_early(*what: Any) -> list[str]:
        """The first look comes before the other process has written."""
        asked.append(what)
        return real(*what) if len(asked) > 1 else []

    monkeypatch.setattr(snapshot_run, "_runs", too_early)
    record(snapshot, store, "third")
    assert [run.data.tags[schema.DATA_SET] for run in snapshot_runs(store_root)] == ["fx"]
