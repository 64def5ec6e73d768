from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from research.data.data_sets import (
    DataSet,
    Version,
    check_name,
    data_set_lock,
    data_set_names,
    default_name,
    read_data_set,
    write_data_set,
)
from research.data.sources import Request
from research.errors import InputError

INDICES = DataSet(
    name="indices",
    request=Request(source="yahoo", symbols=("^DJI", "^VIX"), start=date(1993, 1, 29), settings={"timeout": "9"}),
    allow=("missing-session",),
    history=(Version(digest="0123456789abcdef", at="2026-01-05T12:00:00+00:00"),),
)


@pytest.mark.parametrize("name", ["spy", "spy-dia", "us_2018", "1d-bars", "g" * 64])
def test_plain_names_are_accepted(name: str):
    check_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("decade", "looks like a snapshot's digest"),
        ("20181231", "looks like a snapshot's digest"),
        ("0123456789abcdef", "looks like a snapshot's digest"),
        ("bundled", "a source has this name"),
        ("synthetic", "a source has this name"),
        ("a/b", "give lower-case letters"),
        ("prices.csv", "give lower-case letters"),
        ("../up", "give lower-case letters"),
        (".hidden", "give lower-case letters"),
        ("SPY", "give lower-case letters"),
        ("", "give lower-case letters"),
        ("g" * 65, "64 at most"),
    ],
)
def test_names_that_mean_something_else_are_refused(name: str, reason: str):
    with pytest.raises(InputError) as refused:
        check_name(name)
    assert str(refused.value).startswith(f"NAME={name}: ")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (Request(source="yahoo", symbols=("SPY", "^GSPC", "BRK-B")), "spy-sp500-brkb"),
        (Request(source="yahoo", symbols=tuple("GHIJKLM")), "g-h-i-j-3-more"),
        (Request(source="file", settings={"path": "some/folder/My prices (2).csv.gz"}), "my-prices-2"),
    ],
)
def test_a_data_set_is_named_after_its_symbols_or_its_file(request_: Request, name: str):
    assert default_name(request_) == name
    check_name(name)


def test_a_data_set_comes_back_as_it_was_written(tmp_path: Path):
    write_data_set(INDICES, tmp_path)
    assert read_data_set("indices", tmp_path) == INDICES
    assert data_set_names(tmp_path) == ["indices"]
    assert read_data_set("other", tmp_path) is None


def test_an_interrupted_write_leaves_the_old_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_data_set(INDICES, tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_data_set(INDICES.with_version("f" * 16, "later"), tmp_path)
    assert read_data_set("indices", tmp_path) == INDICES
    assert [path.name for path in tmp_path.iterdir()] == ["indices.json"]


def test_the_same_snapshot_is_no_new_version():
    assert INDICES.with_version(INDICES.digest, "later") == INDICES
    assert [version.digest for version in INDICES.with_version("f" * 16, "later").history] == [INDICES.digest, "f" * 16]


@pytest.mark.parametrize("content", ["", "null", "{}", '{"name": "indices"}', '{"request": {}, "history": []}', "[1]"])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, content: str):
    (tmp_path / "indices.json").write_text(content)
    with pytest.raises(InputError, match=r"DATA=indices: .*indices\.json cannot be read .* delete it .*make data"):
        read_data_set("indices", tmp_path)


def test_a_name_never_leaves_the_folder(tmp_path: Path):
    (tmp_path / "inside").mkdir()
    write_data_set(INDICES, tmp_path)
    assert read_data_set("../indices", tmp_path / "inside") is None


def test_locks_are_not_listed_as_data_sets(tmp_path: Path):
    with data_set_lock("indices", tmp_path):
        assert data_set_names(tmp_path) == []
