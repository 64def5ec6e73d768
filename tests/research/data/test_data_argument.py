from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from research.data.data_argument import bars_of, parse_data_argument
from research.data.data_sets import DataSet, Version, write_data_set
from research.data.snapshots import Snapshot, write_snapshot
from research.data.sources import Request, SourceBars
from research.errors import InputError
from tests.conftest import random_bars


def stored(root: Path, seed: int = 1) -> Snapshot:
    return write_snapshot(SourceBars(source="made", bars={"ABC": random_bars(seed, 30)}, request={}, licence="none"), root)


def name_of(root: Path, name: str, digest: str) -> None:
    version = Version(digest=digest, at="2026-01-05T12:00:00+00:00")
    write_data_set(DataSet(name=name, request=Request(source="yahoo", symbols=("ABC",)), history=(version,)), root)


def test_a_name_selects_its_newest_snapshot(tmp_path: Path):
    name_of(tmp_path, "abc", "0" * 16)
    name_of(tmp_path, "abc", stored(tmp_path).digest)
    assert parse_data_argument("abc", tmp_path) == stored(tmp_path).digest
    chosen = bars_of("abc", tmp_path)
    assert isinstance(chosen, Snapshot)
    assert chosen.digest == stored(tmp_path).digest


@pytest.mark.parametrize("letters", [6, 9, 16])
def test_a_digest_or_the_beginning_of_one_selects_a_snapshot(tmp_path: Path, letters: int):
    digest = stored(tmp_path).digest
    assert parse_data_argument(digest[:letters], tmp_path) == digest


def test_a_beginning_that_two_snapshots_share_lists_them(tmp_path: Path):
    for digest in ("abcdef0000000000", "abcdef1111111111"):
        (tmp_path / digest).mkdir()
    with pytest.raises(InputError, match=r"DATA=abcdef: several .* abcdef0000000000, abcdef1111111111; give more letters"):
        parse_data_argument("abcdef", tmp_path)
    assert parse_data_argument("abcdef1", tmp_path) == "abcdef1111111111"


def test_sources_on_this_machine_are_selected_by_name_and_files_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert parse_data_argument("bundled", tmp_path) == Request(source="bundled")
    asked = parse_data_argument("synthetic:bars=300,seed=4", tmp_path)
    assert asked == Request(source="synthetic", settings={"bars": "300", "seed": "4"})
    for path in ("prices.csv", "some/folder", "PRICES.PARQUET"):
        assert parse_data_argument(path, tmp_path) == Request(source="file", settings={"path": path})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prices").mkdir()
    assert parse_data_argument("prices", tmp_path) == Request(source="file", settings={"path": "prices"})


def test_a_data_set_comes_before_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "abc").mkdir()
    name_of(tmp_path, "abc", "0" * 16)
    assert parse_data_argument("abc", tmp_path) == "0" * 16


def test_an_unknown_word_lists_what_there_is_with_dates_the_closest_first(tmp_path: Path):
    for name in ("alpha", "spy-dia", "zulu"):
        name_of(tmp_path, name, "0" * 16)
    with pytest.raises(InputError) as refused:
        parse_data_argument("spy-di", tmp_path)
    message = str(refused.value)
    assert message.startswith("DATA=spy-di: ")
    assert "did you mean spy-dia?" in message
    assert "spy-dia (2026-01-05), alpha (2026-01-05), zulu (2026-01-05)" in message
    assert "\n" not in message


def test_without_any_data_set_an_unknown_word_says_so(tmp_path: Path):
    with pytest.raises(InputError, match=r"DATA=yahoo: .* data sets: none"):
        parse_data_argument("yahoo", tmp_path)


def test_reading_bars_writes_nothing_and_needs_no_store(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from research.data.data_argument import bars_of; "
        f"print(*bars_of('bundled', Path({str(tmp_path / 'none')!r})), 'mlflow' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["^GSPC", "^IXIC", "False"]
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_read_on_the_spot(tmp_path: Path):
    random_bars(1, 30).to_csv(tmp_path / "abc.csv")
    bars = bars_of(str(tmp_path / "abc.csv"), tmp_path / "none")
    assert not isinstance(bars, Snapshot)
    assert list(bars) == ["ABC"]
    assert len(bars["ABC"]) == 30


def test_a_source_without_settings_refuses_some(tmp_path: Path):
    with pytest.raises(InputError, match="DATA=bundled:x=1: this source takes no settings; give DATA=bundled"):
        parse_data_argument("bundled:x=1", tmp_path)
