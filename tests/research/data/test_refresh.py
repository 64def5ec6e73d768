from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest

from research.data.bars import bars_digest
from research.data.data_sets import data_set_lock, read_data_set
from research.data.refresh import OVERLAP, RefreshResult, refresh
from research.data.snapshots import MANIFEST_FILE, load_snapshot
from research.data.sources import Instrument, Request, SourceBars
from research.errors import InputError
from tests.conftest import random_bars
from tests.support.yahoo_server import session_bars

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SPY = Request(source="yahoo", symbols=("SPY",))


class Vendor:
    """A source that serves whatever a test puts on its shelf, and writes down what it was asked for."""

    def __init__(self, calendar: str = "XNYS") -> None:
        self.shelf: dict[str, pd.DataFrame] = {}
        self.asked: list[Request] = []
        self.calendar = calendar

    def __call__(self, request: Request) -> SourceBars:
        self.asked.append(request)
        if missing := [symbol for symbol in request.symbols if symbol not in self.shelf]:
            raise InputError(f"SYMBOLS={','.join(missing)}: unknown.")
        symbols = request.symbols or tuple(self.shelf)
        first, last = (day and pd.Timestamp(day) for day in (request.start, request.end))
        return SourceBars(
            source=request.source,
            bars={symbol: self.shelf[symbol].loc[first:last] for symbol in symbols},
            request={"symbols": ",".join(symbols), "start": str(request.start or "earliest")},
            licence="none",
            instruments=dict.fromkeys(symbols, Instrument(calendar=self.calendar, kind="fund", currency="USD")),
        )


@pytest.fixture(scope="module")
def history() -> pd.DataFrame:
    return session_bars("2020-01-02", "2020-06-30").assign(dividends=0.0, splits=0.0)


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch, history: pd.DataFrame) -> Vendor:
    vendor = Vendor()
    vendor.shelf["SPY"] = history.iloc[:100].copy()
    monkeypatch.setattr("research.data.refresh.source_named", lambda name: vendor)
    return vendor


def again(root: Path, request: Request = SPY, **options: object) -> RefreshResult:
    return refresh("spy", request, root, now=NOW, **options)  # type: ignore[arg-type]


def revise(vendor: Vendor, place: int, column: str = "volume") -> None:
    vendor.shelf["SPY"].iloc[place, vendor.shelf["SPY"].columns.get_loc(column)] *= 1.01


def entries(root: Path) -> set[str]:
    """Everything that is stored, locks left out."""
    return {path.name for path in root.glob("[!.]*")} | {path.name for path in root.glob(".staging*")}


def test_the_first_refresh_requests_everything(vendor: Vendor, tmp_path: Path):
    result = again(tmp_path)
    assert vendor.asked == [SPY]
    assert result.snapshot.digest == bars_digest({"SPY": vendor.shelf["SPY"]})
    assert (result.before, result.revisions, result.unchanged) == (None, {}, False)
    manifest = result.snapshot.manifest
    assert (manifest.parent, manifest.changes) == ("", {})
    assert manifest.fetched_at == NOW.isoformat(timespec="seconds")
    assert manifest.instruments == {"SPY": {"calendar": "XNYS", "kind": "fund", "currency": "USD"}}
    assert read_data_set("spy", tmp_path) == result.data_set


def test_the_second_refresh_requests_only_the_end_and_writes_nothing(vendor: Vendor, tmp_path: Path):
    first = again(tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    second = again(tmp_path)
    (asked,) = second.requests
    assert asked.start == vendor.shelf["SPY"].index[-1 - OVERLAP].date()
    assert second.unchanged
    assert second.snapshot.digest == first.snapshot.digest
    assert second.revisions["SPY"].counts["unchanged"] == OVERLAP + 1
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert entries(tmp_path) == {"spy.json", first.snapshot.digest}


def test_noise_changes_nothing(vendor: Vendor, tmp_path: Path):
    first = again(tmp_path)
    vendor.shelf["SPY"]["close"] *= 1 + 2e-7
    second = again(tmp_path)
    assert second.unchanged
    assert second.revisions["SPY"].counts["noise"] == OVERLAP + 1
    assert entries(tmp_path) == {"spy.json", first.snapshot.digest}


def test_new_days_make_a_snapshot_that_names_its_parent(vendor: Vendor, tmp_path: Path, history: pd.DataFrame):
    first = again(tmp_path)
    vendor.shelf["SPY"] = history
    second = again(tmp_path)
    manifest = second.snapshot.manifest
    assert len(second.requests) == 1
    assert manifest.parent == first.snapshot.digest
    assert manifest.changes["SPY"]["appended"] == len(history) - 100
    assert manifest.request == {"symbols": "SPY", "start": "earliest"}
    assert second.snapshot.digest == bars_digest({"SPY": history})
    assert [version.digest for version in second.data_set.history] == [first.snapshot.digest, second.snapshot.digest]
    assert load_snapshot(first.snapshot.digest, tmp_path).bars["SPY"].equals(first.snapshot.bars["SPY"])


def test_a_new_dividend_asks_for_nothing_more(vendor: Vendor, tmp_path: Path, history: pd.DataFrame):
    again(tmp_path)
    vendor.shelf["SPY"] = history.copy()
    vendor.shelf["SPY"].iloc[110, vendor.shelf["SPY"].columns.get_loc("dividends")] = 0.7
    result = again(tmp_path)
    assert len(result.requests) == 1
    assert result.snapshot.of("SPY")["dividends"].iloc[110] == 0.7
    assert [change["kind"] for change in result.snapshot.manifest.changes["SPY"]["listed"]] == ["dividend"]


def test_a_revision_in_the_overlap_brings_older_ones_to_light(vendor: Vendor, tmp_path: Path):
    again(tmp_path)
    revise(vendor, 10)
    assert again(tmp_path).unchanged
    revise(vendor, 95)
    result = again(tmp_path)
    assert [request.start for request in result.requests] == [vendor.shelf["SPY"].index[-1 - OVERLAP].date(), None]
    assert result.revisions["SPY"].counts["revised"] == 2
    listed = result.snapshot.manifest.changes["SPY"]["listed"]
    assert [change["day"] for change in listed] == [f"{vendor.shelf['SPY'].index[place]:%Y-%m-%d}" for place in (10, 95)]
    assert listed[0]["new"] == pytest.approx(listed[0]["old"] * 1.01)
    assert result.snapshot.digest == bars_digest(vendor.shelf)


def test_full_looks_at_all_days(vendor: Vendor, tmp_path: Path):
    again(tmp_path)
    revise(vendor, 10)
    result = again(tmp_path, full=True)
    assert [request.start for request in result.requests] == [None]
    assert result.revisions["SPY"].counts["revised"] == 1


def test_a_split_gives_the_snapshot_that_a_first_fetch_would_have_given(vendor: Vendor, tmp_path: Path, history: pd.DataFrame):
    again(tmp_path)
    split = history.copy()
    split.iloc[:, :4] /= 4
    split.iloc[:, 4] *= 4
    split.iloc[105, split.columns.get_loc("splits")] = 4.0
    vendor.shelf["SPY"] = split
    result = again(tmp_path)
    assert [change["kind"] for change in result.snapshot.manifest.changes["SPY"]["listed"]] == ["rescaled", "split"]
    assert result.snapshot.digest == bars_digest({"SPY": split})


def test_a_session_missing_at_the_vendor_is_kept_with_a_warning_until_it_is_back(
    vendor: Vendor, tmp_path: Path, history: pd.DataFrame
):
    first = again(tmp_path)
    whole = vendor.shelf["SPY"]
    lost = whole.index[97]
    vendor.shelf["SPY"] = whole.drop(lost)
    second = again(tmp_path)
    assert second.unchanged
    assert second.revisions["SPY"].counts["vanished"] == 1
    vendor.shelf["SPY"] = history.drop(lost)
    third = again(tmp_path)
    assert third.snapshot.of("SPY").loc[lost].equals(first.snapshot.of("SPY").loc[lost])
    assert third.snapshot.manifest.gone == {"SPY": [f"{lost:%Y-%m-%d}"]}
    assert any(f"no longer has {lost:%Y-%m-%d}" in warning for warning in third.snapshot.manifest.warnings)
    assert again(tmp_path).revisions["SPY"].counts["vanished"] == 0


def test_a_day_without_a_session_that_the_vendor_takes_back_is_dropped(vendor: Vendor, tmp_path: Path):
    good = vendor.shelf["SPY"]
    saturday = good.index[90] + pd.Timedelta(days=(5 - good.index[90].weekday()) % 7)
    extra = good.iloc[[90]].set_index(pd.DatetimeIndex([saturday], name="date"))
    vendor.shelf["SPY"] = pd.concat([good, extra]).sort_index()
    again(tmp_path, allow=["extra-session"])
    vendor.shelf["SPY"] = good
    result = again(tmp_path)
    assert result.revisions["SPY"].counts["dropped"] == 1
    assert result.snapshot.digest == bars_digest({"SPY": good})


def test_a_session_that_was_missing_is_filled(vendor: Vendor, tmp_path: Path):
    whole = vendor.shelf["SPY"]
    vendor.shelf["SPY"] = whole.drop(whole.index[90])
    with pytest.raises(InputError, match="missing-session"):
        again(tmp_path)
    again(tmp_path, allow=["missing-session"])
    vendor.shelf["SPY"] = whole
    result = again(tmp_path)
    assert result.revisions["SPY"].counts["filled"] == 1
    assert result.snapshot.digest == bars_digest({"SPY": whole})


def test_a_session_that_has_not_ended_is_not_appended(vendor: Vendor, tmp_path: Path, history: pd.DataFrame):
    first = again(tmp_path)
    vendor.shelf["SPY"] = history
    last = vendor.shelf["SPY"].index[-1]
    noon = datetime(last.year, last.month, last.day, 16, tzinfo=UTC)
    result = refresh("spy", SPY, tmp_path, now=noon)
    assert result.revisions["SPY"].counts["appended"] == len(history) - 101
    assert result.snapshot.of("SPY").index[-1] == history.index[-2]
    assert any("left out" in warning for warning in result.snapshot.manifest.warnings)
    assert result.before is not None
    assert result.before.digest == first.snapshot.digest


def test_only_a_new_symbol_is_requested_in_full(vendor: Vendor, tmp_path: Path, history: pd.DataFrame):
    again(tmp_path)
    vendor.shelf["QQQ"] = history.iloc[:100, :5] * 2
    result = again(tmp_path, replace(SPY, symbols=("SPY", "QQQ")))
    overlap = vendor.shelf["SPY"].index[-1 - OVERLAP].date()
    assert [(request.symbols, request.start) for request in result.requests] == [(("SPY",), overlap), (("QQQ",), None)]
    assert list(result.snapshot.manifest.symbols) == ["SPY", "QQQ"]
    assert set(result.revisions) == {"SPY"}
    without = again(tmp_path, replace(SPY, symbols=("QQQ",)))
    assert list(without.snapshot.bars) == ["QQQ"]
    assert without.data_set.request.symbols == ("QQQ",)


def test_another_period_withdraws_nothing(vendor: Vendor, tmp_path: Path, history: pd.DataFrame):
    again(tmp_path)
    later = again(tmp_path, replace(SPY, start=date(2020, 2, 3)))
    assert later.revisions["SPY"].counts["vanished"] == 0
    assert later.snapshot.manifest.symbols["SPY"]["first"] == "2020-02-03"
    back = again(tmp_path)
    assert back.revisions["SPY"].counts["appended"] == 21
    assert back.snapshot.digest == bars_digest({"SPY": history.iloc[:100]})


@pytest.mark.parametrize("bad", ["missing-session", "non-positive-price", "unknown symbol"])
def test_what_is_refused_leaves_everything_as_it_was(vendor: Vendor, tmp_path: Path, history: pd.DataFrame, bad: str):
    first = again(tmp_path)
    data_set = read_data_set("spy", tmp_path)
    vendor.shelf["SPY"] = history.copy()
    if bad == "missing-session":
        vendor.shelf["SPY"] = history.drop(history.index[110])
    elif bad == "non-positive-price":
        vendor.shelf["SPY"].iloc[110, 2] = -1.0
    else:
        vendor.shelf.clear()
    with pytest.raises(InputError):
        again(tmp_path)
    assert entries(tmp_path) == {"spy.json", first.snapshot.digest}
    assert read_data_set("spy", tmp_path) == data_set


@pytest.mark.parametrize("bad", ["missing-session", "unknown symbol"])
def test_a_refused_first_fetch_leaves_nothing(vendor: Vendor, tmp_path: Path, bad: str):
    if bad == "unknown symbol":
        vendor.shelf.clear()
    else:
        vendor.shelf["SPY"] = vendor.shelf["SPY"].drop(vendor.shelf["SPY"].index[50])
    with pytest.raises(InputError):
        again(tmp_path)
    assert entries(tmp_path) == set()


def test_accepted_rules_are_remembered_and_named(vendor: Vendor, tmp_path: Path, history: pd.DataFrame):
    vendor.shelf["SPY"] = history.iloc[:100].drop(history.index[50])
    first = again(tmp_path, allow=["missing-session"])
    assert first.snapshot.manifest.allowed == ["missing-session"]
    vendor.shelf["SPY"] = history.drop(history.index[50])
    assert again(tmp_path).snapshot.manifest.allowed == ["missing-session"]


def test_the_next_run_repairs_a_kill_between_snapshot_and_name(
    vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, history: pd.DataFrame
):
    first = again(tmp_path)
    vendor.shelf["SPY"] = history

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("research.data.refresh.write_data_set", killed)
        with pytest.raises(KeyboardInterrupt):
            again(tmp_path)
    orphan = bars_digest({"SPY": history})
    assert entries(tmp_path) == {"spy.json", first.snapshot.digest, orphan}
    healed = again(tmp_path)
    assert (healed.snapshot.digest, healed.snapshot.manifest.parent) == (orphan, first.snapshot.digest)
    assert [version.digest for version in read_data_set("spy", tmp_path).history] == [first.snapshot.digest, orphan]  # type: ignore[union-attr]


def test_a_data_set_whose_snapshot_was_deleted_is_built_again(vendor: Vendor, tmp_path: Path):
    first = again(tmp_path)
    for file in first.snapshot.folder.iterdir():
        file.unlink()
    first.snapshot.folder.rmdir()
    assert again(tmp_path).snapshot.digest == first.snapshot.digest


def test_a_refresh_of_a_corrupted_snapshot_is_refused(vendor: Vendor, tmp_path: Path):
    manifest = again(tmp_path).snapshot.folder / MANIFEST_FILE
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "digest": "0123456789abcdef"}))
    with pytest.raises(InputError, match=r"delete .* and run `make data`"):
        again(tmp_path)


def test_a_name_stays_with_its_source(vendor: Vendor, tmp_path: Path):
    again(tmp_path)
    with pytest.raises(InputError, match="NAME=spy: this data set comes from yahoo; give another NAME"):
        again(tmp_path, Request(source="file", settings={"path": "spy.csv"}))


def test_a_file_is_read_in_full_and_replaces_the_stored_bars(vendor: Vendor, tmp_path: Path):
    vendor.calendar = ""
    vendor.shelf = {"ABC": random_bars(1, 60), "ABD": random_bars(2, 60)}
    request = Request(source="file", settings={"path": "prices.csv"})
    again(tmp_path, request)
    vendor.shelf["ABC"] = vendor.shelf["ABC"].drop(vendor.shelf["ABC"].index[7])
    result = again(tmp_path, request)
    assert result.requests == [request]
    assert result.revisions["ABC"].counts["dropped"] == 1
    assert result.snapshot.digest == bars_digest(vendor.shelf)


HOLD = """
import sys
from pathlib import Path
from research.data.data_sets import data_set_lock
with data_set_lock("spy", Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_cannot_change_one_data_set_and_a_dead_one_holds_nothing(vendor: Vendor, tmp_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="NAME=spy: another `make data` is changing this data set"):
            again(tmp_path)
        with data_set_lock("other", tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    assert vendor.asked == []
    assert again(tmp_path).snapshot.digest
