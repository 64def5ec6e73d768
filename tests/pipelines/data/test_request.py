from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from pipelines.data.options import IngestOptions
from pipelines.data.request import IngestRequest, parse_request
from research.data.data_sets import DataSet, Version, write_data_set
from research.data.sources import Request
from research.errors import InputError

SPY = Request(source="yahoo", symbols=("SPY",), start=date(1993, 1, 29))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    version = Version(digest="0" * 16, at="2026-01-05T12:00:00+00:00")
    write_data_set(DataSet(name="spy", request=SPY, history=(version,)), tmp_path)
    prices = Request(source="file", settings={"path": str(tmp_path / "prices.csv"), "calendar": "XNYS"})
    write_data_set(DataSet(name="prices", request=prices, history=(version,)), tmp_path)
    return tmp_path


def order(root: Path, **options: object) -> IngestRequest:
    return parse_request(IngestOptions(**options), root)  # type: ignore[arg-type]


def test_symbols_become_a_yahoo_request_with_a_name_made_from_them(root: Path):
    asked = order(root, symbols="QQQ, ^VIX,QQQ", start=date(2000, 1, 3), timeout=9.0)
    settings = {"timeout": "9.0"}
    assert asked == IngestRequest(
        name="qqq-vix", request=Request(source="yahoo", symbols=("QQQ", "^VIX"), start=date(2000, 1, 3), settings=settings)
    )
    assert order(root, symbols="QQQ", name="mine").name == "mine"


@pytest.mark.parametrize("options", [{"data": "spy"}, {"symbols": "SPY"}, {"symbols": "SPY", "data": "yahoo"}])
def test_what_is_left_out_of_a_data_set_stays_as_it_was(root: Path, options: dict[str, object]):
    assert order(root, **options) == IngestRequest(name="spy", request=SPY)
    later = order(root, **options, end=date(2020, 1, 2)).request
    assert later == Request(source="yahoo", symbols=("SPY",), start=date(1993, 1, 29), end=date(2020, 1, 2))


def test_symbols_of_a_data_set_are_changed_where_it_is_named(root: Path):
    for asked in (order(root, data="spy", symbols="SPY,QQQ"), order(root, name="spy", symbols="SPY,QQQ")):
        assert asked.name == "spy"
        assert asked.request == Request(source="yahoo", symbols=("SPY", "QQQ"), start=date(1993, 1, 29))


def test_a_file_is_remembered_by_where_it_lies_and_keeps_its_settings(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(root)
    asked = order(root, data="prices.csv", columns="close=last")
    settings = {"path": str(root / "prices.csv"), "calendar": "XNYS", "columns": "close=last"}
    assert asked == IngestRequest(name="prices", request=Request(source="file", settings=settings))


def test_bundled_and_synthetic_bars_need_no_name_and_may_have_one(root: Path):
    assert order(root) == order(root, data="bundled") == IngestRequest(request=Request(source="bundled"))
    made = Request(source="synthetic", settings={"bars": "300"})
    assert order(root, data="synthetic:bars=300") == IngestRequest(request=made)
    assert order(root, data="synthetic:bars=300", name="control") == IngestRequest(name="control", request=made)


def test_a_digest_is_verified(root: Path):
    (root / "0123456789abcdef").mkdir()
    assert order(root, data="012345") == IngestRequest(digest="0123456789abcdef")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "yahoo"}, "SYMBOLS=: no symbol is given; name instruments as Yahoo does"),
        ({"data": "spy", "name": "other"}, "NAME=other: DATA=spy is the data set's name already; leave NAME out"),
        ({"data": "spy", "calendar": "XNYS"}, "CALENDAR=XNYS: does not apply to yahoo; leave it out"),
        ({"start": date(2000, 1, 3)}, "START=2000-01-03: does not apply to bundled; leave it out"),
        ({"data": "bundled", "symbols": "SPY"}, "SYMBOLS=SPY: does not apply to bundled"),
        (
            {"data": "elsewhere/prices.csv"},
            "NAME=prices: the data set of this name holds .* from file; give another NAME, or NAME=prices",
        ),
        ({"symbols": "^SPY"}, r"NAME=spy: the data set of this name holds SPY from yahoo"),
        ({"symbols": "DECADE"}, "NAME=decade: looks like a snapshot's digest"),
        ({"symbols": "QQQ", "name": "a/b"}, "NAME=a/b: not a valid name; give lower-case letters"),
        ({"data": "0" * 16, "end": date(2000, 1, 3)}, "END=2000-01-03: does not apply to a stored snapshot"),
        ({"data": "nowhere"}, "DATA=nowhere: no such source, file or data set"),
    ],
)
def test_options_that_contradict_each_other_or_what_is_there_are_refused(root: Path, options: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        order(root, **options)
