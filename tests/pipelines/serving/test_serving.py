"""A registered model in use: the same probabilities from Python, over HTTP and in training, and no number for bad bars."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from rich.console import Console

from pipelines.serving.latest_prediction import (
    data_ages,
    newest_probabilities,
    newest_snapshot,
    require_fresh,
    served_model_info,
)
from pipelines.serving.packaging import as_table
from pipelines.serving.predict import ModelPrediction, PredictOptions, main, print_predictions, standing_of
from pipelines.serving.serve import ServeOptions, curl
from pipelines.serving.serve import main as serve
from pipelines.sweep.state import Sweep
from research.data.calendars import sessions_missed
from research.data.data_sets import DataSet, Version, newest_after, write_data_set
from research.data.sources import Request as DataRequest
from research.errors import InputError
from research.tracking import query, schema
from research.tracking.registry import chosen, load, register, sentence_of
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store
from tests.support.scoring_servers import as_json, ask, free_port, mlflow_serving, wait_until_it_answers
from tests.support.small_sweeps import copy_of, run

NAME = "sp500-threshold-1pct-2K-h1"
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def root(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(migrated_store, tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def sweep(root: Path) -> Sweep:
    return run(root, registers=True, trials=2)


@pytest.fixture(scope="module")
def store(sweep: Sweep, root: Path) -> Store:
    return open_store(root)


@pytest.fixture(scope="module")
def bars(sweep: Sweep) -> pd.DataFrame:
    """The whole history, as the model takes it."""
    return as_table({"^GSPC": sweep.context.task.snapshot.of("^GSPC")})


@pytest.fixture(scope="module")
def trained(sweep: Sweep, store: Store) -> pd.Series:
    """Validation probabilities of the registered trial, as training stored them, by day."""
    assert sweep.best is not None
    said = query.predictions(store, sweep.best.run_id)
    return pd.Series(said["probability"].to_numpy(), said["date"].dt.strftime("%Y-%m-%d"))


@pytest.fixture(scope="module")
def server(sweep: Sweep, root: Path) -> Iterator[tuple[str, int]]:
    """`make serve` as a process of its own, ended by Ctrl-C: its address and port."""
    port = free_port()
    command = [sys.executable, "-m", "tapescale", "serve", "--store", str(root), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}", port
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
        assert f"{NAME} version 1 (challenger, there is no champion)" in said
        assert curl(port) in said
        assert "Traceback" not in errors
    finally:
        process.kill()


def test_python_http_and_training_agree_on_the_days_they_share(
    store: Store, bars: pd.DataFrame, trained: pd.Series, server: tuple[str, int]
) -> None:
    (version,) = chosen(store)
    model = load(store, version)
    local = model.predict(bars).set_index("date")["probability"]
    assert local[trained.index].to_numpy() == pytest.approx(trained.to_numpy(), abs=1e-6)
    for body, kind in ((as_json(bars), "application/json"), (bars.to_csv(index=False).encode(), "text/csv")):
        status, told = ask(server[0], body, kind)
        assert status == 200
        remote = pd.DataFrame(told["predictions"]).set_index("date")["probability"]
        assert list(remote.index) == list(local.index)
        assert remote.to_numpy() == pytest.approx(local.to_numpy(), abs=1e-6)


def test_the_newest_days_alone_are_answered_as_among_all_of_them(
    store: Store, bars: pd.DataFrame, server: tuple[str, int]
) -> None:
    model = load(store, chosen(store)[0])
    every, newest = model.predict(bars), model.predict(bars, params={"days": 5})
    assert newest["date"].tolist() == every["date"].tolist()[-5:]
    assert newest["probability"].to_numpy() == pytest.approx(every["probability"].tail(5).to_numpy(), abs=1e-12)
    asked = {**json.loads(as_json(bars)), "params": {"days": 5}}
    status, told = ask(server[0], json.dumps(asked).encode())
    assert (status, [one["date"] for one in told["predictions"]]) == (200, newest["date"].tolist())
    for wrong, words in ((-1, "days=-1: give the number of newest days"), ("five", "days")):
        status, told = ask(server[0], json.dumps({**asked, "params": {"days": wrong}}).encode())
        assert status == 400
        assert words in told["message"]


def test_the_printed_curl_command_gets_probabilities(server: tuple[str, int], bars: pd.DataFrame, tmp_path: Path) -> None:
    bars.tail(300).to_csv(tmp_path / "bars.csv", index=False)
    done = subprocess.run(curl(server[1]), shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    predictions = json.loads(done.stdout)["predictions"]
    assert predictions[-1]["date"] == "2018-12-31"
    assert len(predictions) == 300 - 258
    assert all(0 < one["probability"] < 1 for one in predictions)


def with_value(column: str, value: object) -> Spoil:
    """One cell, well inside the table."""

    def spoil(bars: pd.DataFrame) -> pd.DataFrame:
        changed = bars.astype(object)
        changed.iloc[250, changed.columns.get_loc(column)] = value  # type: ignore[index]
        return changed

    return spoil


MALFORMED: dict[str, tuple[Spoil, str]] = {
    "a missing price": (lambda bars: bars.drop(columns="close"), r"\['close'\]"),
    "a missing date column": (lambda bars: bars.drop(columns="date"), r"\['date'\]"),
    "days from new to old": (lambda bars: bars.iloc[::-1], "dates are not increasing"),
    "a price that is not there": (with_value("close", None), "a price is not finite on 2018-10-18"),
    "a volume that is not there": (with_value("volume", float("nan")), "volume is negative or not finite on 2018-10-18"),
    "too few rows": (lambda bars: bars.tail(258), "258 bars are too few; give at least 259"),
    "no rows": (lambda bars: bars.head(0), "there are no bars; send at least one"),
    "another instrument": (lambda bars: bars.assign(symbol="AAPL"), "symbol=AAPL: the model was trained on"),
    "an instrument that is not named": (lambda bars: bars.assign(symbol=None), "symbol is missing in some rows"),
    "a negative price": (with_value("low", -1.0), "a price is not positive on 2018-10-18"),
    "a high below the low": (with_value("high", 1.0), "high is below open, low or close on 2018-10-18; send corrected bars"),
    "a day that comes twice": (with_value("date", "2018-10-17"), "a date comes twice on 2018-10-17"),
    "a word for a price": (with_value("close", "abc"), "column close has 'abc', which is not a number"),
    "a number written as text": (with_value("close", "2800.5"), "column close has '2800.5', which is not a number"),
    "a boolean for a volume": (with_value("volume", True), "column volume has 'True', which is not a number"),
    "a list for a price": (with_value("open", [1.0]), "column open has .* which is not a number"),
    "text for dividends": (lambda bars: bars.assign(dividends="none"), "column dividends has 'none', which is not a number"),
    "a word for a day": (with_value("date", "yesterday"), "date=yesterday: not a day"),
    "a number for a day": (lambda bars: bars.assign(date=20181231), "column date"),
    "a time zone": (lambda bars: bars.assign(date=bars["date"] + "T00:00:00Z"), "dates without a time zone"),
    "a time of day": (lambda bars: bars.assign(date=bars["date"] + "T09:30:00"), "a date has a time of day"),
    "a column twice": (lambda bars: pd.concat([bars, bars[["close"]]], axis=1), "column close is duplicated"),
}


def require_refusal(status: int, told: dict, names: str) -> None:
    assert 400 <= status < 500
    assert set(told) == {"error_code", "message"}
    assert "\n" not in told["message"]
    assert len(told["message"]) < 320
    assert pd.Series([told["message"]]).str.contains(names).all(), told["message"]


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_bars_get_one_sentence_that_names_the_field(server: tuple[str, int], bars: pd.DataFrame, case: str) -> None:
    spoil, names = MALFORMED[case]
    status, told = ask(server[0], as_json(spoil(bars.tail(300).reset_index(drop=True))))
    require_refusal(status, told, names)


@pytest.mark.parametrize(
    ("body", "kind", "names"),
    [
        (b"hello", "application/json", "valid JSON"),
        (b"[]", "application/json", "Received a list"),
        (b"{}", "application/json", "exactly one of the input fields"),
        (b'{"inputs": [1, 2]}', "application/json", "dataframe_split"),
        (b'{"dataframe_records": [1]}', "application/json", "missing inputs"),
        (b"", "text/csv", "No columns"),
        (b"date,open,high,low,close,volume\n2018-12-31,x,1,1,1,1\n", "text/csv", "column open has 'x'"),
        (b"xx", "application/vnd.apache.parquet", "Parquet"),
        (b"date,open,high,low,close,volume\n2018-12-28,1,1,1,1,1\n2018-12-31,x,1,1,1,1\n", "text/csv", "column open has 'x'"),
        (b"<bars/>", "text/xml", "text/csv"),
    ],
)
def test_what_is_no_table_is_refused(server: tuple[str, int], body: bytes, kind: str, names: str) -> None:
    require_refusal(*ask(server[0], body, kind), names)


def test_a_page_that_poses_as_this_machine_is_refused(server: tuple[str, int]) -> None:
    assert ask(server[0], b"{}", host="rebound.example")[0] == 400


def test_whole_numbers_and_a_parquet_file_are_bars_too(server: tuple[str, int], bars: pd.DataFrame) -> None:
    whole = bars.tail(300).assign(volume=bars["volume"].astype(np.int64))
    file = io.BytesIO()
    whole.to_parquet(file, index=False)
    answers = [ask(server[0], file.getvalue(), "application/vnd.apache.parquet"), ask(server[0], as_json(bars.tail(300)))]
    assert answers[0] == answers[1]
    assert answers[0][0] == 200


def test_bars_that_python_sends_are_refused_in_one_sentence(store: Store, bars: pd.DataFrame) -> None:
    model = mlflow.pyfunc.load_model(str(store.local_artifact(chosen(store)[0].run_id, schema.MODEL_FOLDER)))
    with pytest.raises(MlflowException, match="a date comes twice") as refusal:
        model.predict(with_value("date", "2018-10-17")(bars.tail(300)).astype(bars.dtypes))
    assert refusal.value.get_http_status_code() == 400


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("Failed to predict data '   a\n0  1'. \nError: ^GSPC: a date comes twice.", "^GSPC: a date comes twice."),
        ("Failed to predict data 'x'. \nError: Failed to enforce schema of data 'x'. Error: no close.", "no close."),
        ("Send a dictionary. IMPORTANT: the protocol has changed", "Send a dictionary."),
        ("Invalid input. Error: 'x'\nInput: \n'y'", "Invalid input. Error: 'x'"),
    ],
)
def test_the_reason_is_found_in_what_mlflow_repeats_around_it(message: str, sentence: str) -> None:
    assert sentence_of(message) == sentence


def test_stale_data_are_refused_with_their_last_day_and_shown_when_asked_for(
    root: Path, store: Store, sweep: Sweep, bars: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"MAX_AGE=1: the bars of \^GSPC .* end 2018-12-31, .* STALE_OK=1"):
        main(PredictOptions(store=root))
    assert capsys.readouterr().out == ""
    main(PredictOptions(store=root, model=NAME, stale_ok=True, days=2))
    shown = capsys.readouterr().out
    rate = f"{sweep.context.task.training_base_rate:.3f}"
    newest = load(store, chosen(store)[0]).predict(bars).tail(2)
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith("^GSPC")]
    said = zip(newest["date"], newest["probability"], strict=True)
    assert rows == [["^GSPC", "1", day, f"{p:.3f}", "-", rate, NAME, "v1"] for day, p in said]
    assert "version 1 (challenger, there is no champion)" in shown
    assert "predictions for the last available bar, not for today" in shown


def test_the_range_over_seeds_is_shown_where_there_is_one(store: Store) -> None:
    model, told = served_model_info(store, chosen(store)[0]), io.StringIO()
    said = pd.DataFrame({"symbol": ["^GSPC"], "date": ["2018-12-31"], "probability": [0.3], "low": [0.25], "high": [0.4]})
    print_predictions([ModelPrediction(model=model, table=said, lines=["first"])], Console(file=told, width=120))
    assert told.getvalue().startswith("first\n")
    assert " 0.300  0.250 .. 0.400 " in told.getvalue()


def test_age_counts_sessions_that_are_over(store: Store) -> None:
    model = served_model_info(store, chosen(store)[0])
    snapshot = newest_snapshot(store, model)
    # New Year's Day has no session; that of 2 January 2019 ends at 21:00 UTC.
    for now, missed in ((datetime(2019, 1, 2, 20, tzinfo=UTC), 0), (datetime(2019, 1, 2, 21, 30, tzinfo=UTC), 1)):
        found = data_ages(model, snapshot, now)
        assert found["^GSPC"].missed == missed
        require_fresh(found, snapshot, missed)
    with pytest.raises(InputError, match=r"MAX_AGE=0: the bars of \^GSPC .* end 2018-12-31, 1 XNYS session ago"):
        require_fresh(found, snapshot, 0)
    # Without a calendar weekdays are counted: New Year's Day and 2 January are over.
    assert sessions_missed(pd.Timestamp("2018-12-31"), None, datetime(2019, 1, 3, 1, tzinfo=UTC)) == 2


def test_the_newest_snapshot_of_the_same_data_set_is_asked(tmp_path: Path) -> None:
    request = DataRequest(source="yahoo", symbols=("SPY",))
    history = (Version(digest="a" * 16, at="2026-01-01"), Version(digest="b" * 16, at="2026-02-01"))
    write_data_set(DataSet(name="spy", request=request, history=history), tmp_path)
    assert newest_after("a" * 16, tmp_path) == "b" * 16
    assert newest_after("c" * 16, tmp_path) == "c" * 16


def test_a_champion_is_asked_before_the_challenger(store: Store) -> None:
    first = chosen(store)[0]
    store.client.set_registered_model_alias(NAME, schema.CHAMPION, first.version)
    try:
        assert chosen(store, NAME)[0].title == f"{NAME} version 1 (champion)"
    finally:
        store.client.delete_registered_model_alias(NAME, schema.CHAMPION)
    with pytest.raises(InputError, match=f"MODEL=none: no such registered model; give one of {NAME}"):
        chosen(store, "none")


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({}, ")"),
        ({schema.LOOKS_RELATED: "0"}, ")"),
        ({schema.LOOKS_RELATED: "2"}, "; no fresh test: the configuration was evaluated on these days before)"),
        ({schema.LOOKS_RELATED: "2", schema.SECOND_LOOK: "1 before"}, "; second look, not a test)"),
    ],
)
def test_a_skill_that_is_no_fresh_test_says_so(store: Store, tags: dict[str, str], words: str) -> None:
    version = chosen(store)[0]
    experiment = store.client.get_run(version.run_id).info.experiment_id
    told = {schema.FINAL_RUN: version.run_id, **tags}
    log = RunLog.start(store, experiment_id=experiment, kind="evaluation", name="e", params={}, tags=told)
    log.finish("complete", metrics={"test_skill": 0.1, "test_spread": 0.1, "test_n": 881.0})
    try:
        expected = f"skill +0.100 on 881 test rows (evaluation {log.run_id[:12]}{words}"
        assert standing_of(served_model_info(store, version)) == expected
    finally:
        store.client.delete_run(log.run_id)


def test_bars_of_another_instrument_are_no_data_for_the_model(store: Store, sweep: Sweep) -> None:
    model, snapshot = served_model_info(store, chosen(store)[0]), sweep.context.task.snapshot
    other = type(snapshot)(manifest=snapshot.manifest, bars={"^IXIC": snapshot.of("^IXIC")}, folder=snapshot.folder)
    with pytest.raises(InputError, match=r"SYMBOL=\^GSPC: not in snapshot .*; give one of \^IXIC"):
        newest_probabilities(store, model, other, 1)


def test_of_several_models_each_is_asked_and_the_server_wants_a_name(
    root: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = chosen(store)[0].run_id
    register(store, name="other", run_id=run_id, val_loss=0.5, study="s", description="the same model")
    try:
        with pytest.raises(InputError, match=f"MODEL=: there are several; give one of other, {NAME}"):
            serve(ServeOptions(store=root, port=free_port()))
        main(PredictOptions(store=root, stale_ok=True))
        shown = capsys.readouterr().out
        assert [f"model      {name} version 1" in shown for name in ("other", NAME)] == [True, True]
        with pytest.raises(SystemExit) as ended:
            main(PredictOptions(store=root))
        told = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2
        assert [line.split(": MAX_AGE=1: ")[0] for line in told] == ["error: other", f"error: {NAME}"]
    finally:
        store.client.delete_registered_model("other")


@pytest.fixture(scope="module")
def mlflows_own_server(sweep: Sweep, store: Store) -> Iterator[str]:
    """`mlflow models serve` for the registered version by its alias."""
    with mlflow_serving(store, f"models:/{NAME}@{schema.CHALLENGER}") as address:
        yield address


@pytest.mark.slow
def test_mlflows_own_server_gives_the_probabilities_of_training(
    mlflows_own_server: str, bars: pd.DataFrame, trained: pd.Series
) -> None:
    status, told = ask(mlflows_own_server, as_json(bars))
    assert status == 200
    remote = pd.DataFrame(told["predictions"]).set_index("date")["probability"]
    assert remote[trained.index].to_numpy() == pytest.approx(trained.to_numpy(), abs=1e-6)


KEPT_BY_MLFLOW = [case for case in MALFORMED if case not in ("a number written as text", "a boolean for a volume")]
"""MLflow's server turns text and booleans into numbers before the model sees them."""


@pytest.mark.slow
@pytest.mark.parametrize("case", KEPT_BY_MLFLOW)
def test_mlflows_own_server_refuses_malformed_bars_too(mlflows_own_server: str, bars: pd.DataFrame, case: str) -> None:
    spoil, _ = MALFORMED[case]
    status, told = ask(mlflows_own_server, as_json(spoil(bars.tail(300).reset_index(drop=True))))
    assert 400 <= status < 500, (status, told)
    assert "predictions" not in told
