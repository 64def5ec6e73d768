from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from research.data import snapshots
from research.data.bars import OHLCV, bars_digest
from research.data.bundled import bundled
from research.data.snapshots import BARS_FILE, MANIFEST_FILE, Manifest, Snapshot, load_snapshot, write_snapshot
from research.data.sources import Instrument, SourceBars
from research.errors import InputError
from tests.conftest import random_bars


def delivery(days: int = 40) -> SourceBars:
    bars = {"ABC": random_bars(1, days), "ABD": random_bars(2, days)}
    return SourceBars(source="made", bars=bars, request={"days": str(days)}, licence="none", versions={"numpy": "2"})


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return write_snapshot(delivery(), tmp_path)


def assert_corrupted(snapshot: Snapshot) -> None:
    with pytest.raises(InputError) as refused:
        load_snapshot(snapshot.digest, snapshot.folder.parent)
    message = str(refused.value)
    assert snapshot.digest in message
    assert f"delete {snapshot.folder} and run `make data`" in message


def test_a_snapshot_gives_back_the_bars_it_was_given(snapshot: Snapshot, tmp_path: Path):
    loaded = load_snapshot(snapshot.digest, tmp_path)
    assert snapshot.folder == tmp_path / snapshot.digest
    assert loaded.digest == bars_digest(delivery().bars) == snapshot.digest
    for symbol, bars in delivery().bars.items():
        pd.testing.assert_frame_equal(loaded.of(symbol), bars, check_freq=False, check_index_type=False)


def test_the_manifest_says_where_bars_came_from_and_what_is_odd_about_them(tmp_path: Path):
    manifest = write_snapshot(bundled(), tmp_path).manifest
    assert manifest.source == "bundled"
    assert "arch" in manifest.versions
    facts = {"rows": 5031, "first": "1999-01-04", "last": "2018-12-31"}
    assert manifest.symbols["^GSPC"] == {**facts, "digest": bars_digest({"^GSPC": bundled().bars["^GSPC"]})}
    assert manifest.instruments["^GSPC"] == {"calendar": "XNYS", "kind": "index", "currency": "USD"}
    (stale,) = [warning for warning in manifest.warnings if warning.startswith("^GSPC")]
    assert "open equals the previous close" in stale
    assert "96%" in stale
    assert any("volume is zero on 2015-05-12, 2018-01-09" in warning for warning in manifest.warnings)


def test_writing_the_same_bars_twice_gives_one_untouched_folder(snapshot: Snapshot, tmp_path: Path):
    files = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in snapshot.folder.iterdir()}
    again = write_snapshot(replace(delivery(), request={"days": "asked again"}), tmp_path)
    assert again.manifest == snapshot.manifest
    assert [path.name for path in tmp_path.iterdir()] == [snapshot.digest]
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in snapshot.folder.iterdir()} == files


def test_other_bars_get_another_folder(snapshot: Snapshot, tmp_path: Path):
    other = write_snapshot(delivery(days=41), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {snapshot.digest, other.digest}


def test_the_digest_of_the_bundled_bars_is_the_one_of_every_result_so_far(tmp_path: Path):
    assert write_snapshot(bundled(), tmp_path).digest == "e56348962ae6f5b4"


def test_bars_that_break_the_contract_are_not_stored(tmp_path: Path):
    broken = delivery()
    broken.bars["ABD"].iloc[3, 0] = np.nan
    with pytest.raises(InputError, match="ABD: a price is not finite"):
        write_snapshot(broken, tmp_path / "snapshots")
    assert not (tmp_path / "snapshots").exists()


def test_a_table_without_closes_is_refused_in_a_sentence(tmp_path: Path):
    broken = delivery()
    broken.bars["ABD"] = broken.bars["ABD"].drop(columns="close")
    with pytest.raises(InputError, match="ABD: column close is missing"):
        write_snapshot(broken, tmp_path)


def test_bars_that_are_stored_already_are_not_validated_again(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(snapshots, "validate", None)
    assert write_snapshot(delivery(), tmp_path).digest == snapshot.digest


def test_what_the_source_noted_and_the_user_accepted_is_on_the_manifest(tmp_path: Path):
    delivered = delivery()
    delivered.bars["ABC"].iloc[20:, :4] *= 3
    noted = replace(delivered, notes=["ABC: noted."], instruments={"ABC": Instrument(kind="index")})
    with pytest.raises(InputError, match="ALLOW=jump-without-split"):
        write_snapshot(noted, tmp_path)
    manifest = write_snapshot(noted, tmp_path, allow=["jump-without-split"]).manifest
    assert manifest.allowed == ["jump-without-split"]
    assert any("jump-without-split was allowed" in warning for warning in manifest.warnings)
    assert "ABC: noted." in manifest.warnings


def test_columns_that_only_one_instrument_has_stay_with_it(tmp_path: Path):
    delivered = delivery()
    delivered.bars["ABC"]["dividends"] = 0.0
    delivered.bars["ABC"].iloc[5, -1] = 0.3
    loaded = write_snapshot(delivered, tmp_path)
    assert list(loaded.of("ABC").columns) == [*OHLCV, "dividends"]
    assert list(loaded.of("ABD").columns) == OHLCV
    assert loaded.digest != bars_digest(delivery().bars)


def test_a_manifest_written_before_snapshots_could_grow_still_loads(snapshot: Snapshot, tmp_path: Path):
    path = snapshot.folder / MANIFEST_FILE
    old = json.loads(path.read_text())
    for name in ("instruments", "fetched_at", "allowed", "parent", "changes", "gone"):
        del old[name]
    path.write_text(json.dumps(old))
    manifest = load_snapshot(snapshot.digest, tmp_path).manifest
    assert (manifest.parent, manifest.changes, manifest.instruments) == ("", {}, {})


def is_refused(snapshot: Snapshot) -> bool:
    """Whether loading refuses the snapshot and names the fix; otherwise the bars must be those that were written."""
    try:
        loaded = load_snapshot(snapshot.digest, snapshot.folder.parent)
    except InputError as problem:
        refusal = str(problem)
    else:
        for symbol, bars in snapshot.bars.items():
            np.testing.assert_allclose(loaded.of(symbol)[OHLCV], bars[OHLCV], rtol=0, atol=1e-6)
            assert (loaded.of(symbol).index == bars.index).all()
        return False
    assert f"delete {snapshot.folder} and run `make data`" in refusal
    return True


def test_a_flipped_byte_is_refused_or_harmless(snapshot: Snapshot):
    path = snapshot.folder / BARS_FILE
    intact = path.read_bytes()
    refused = 0
    for place in range(11, len(intact), 67):
        path.write_bytes(intact[:place] + bytes([intact[place] ^ 0x55]) + intact[place + 1 :])
        refused += is_refused(snapshot)
    assert refused > 40


@pytest.mark.parametrize("word", ["numpy_type", "pandas_type", "index_columns", "name", "symbol", "date", "close"])
def test_a_damaged_word_inside_the_parquet_file_is_refused_or_harmless(snapshot: Snapshot, word: str):
    path = snapshot.folder / BARS_FILE
    intact = path.read_bytes()
    places = [found.start() for found in re.finditer(word.encode(), intact)]
    assert places
    for place in places:
        path.write_bytes(intact[:place] + b"x" + intact[place + 1 :])
        is_refused(snapshot)


@pytest.mark.parametrize("column", OHLCV)
def test_one_replaced_number_is_refused(snapshot: Snapshot, column: str):
    path = snapshot.folder / BARS_FILE
    table = pd.read_parquet(path)
    table.loc[17, column] += 0.01
    table.to_parquet(path, index=False)
    assert_corrupted(snapshot)


@pytest.mark.parametrize("column", ["symbol", "date", "volume"])
def test_a_lost_column_is_refused(snapshot: Snapshot, column: str):
    path = snapshot.folder / BARS_FILE
    pd.read_parquet(path).drop(columns=column).to_parquet(path, index=False)
    assert_corrupted(snapshot)


@pytest.mark.parametrize("name", [BARS_FILE, MANIFEST_FILE])
def test_a_deleted_file_is_refused(snapshot: Snapshot, name: str):
    (snapshot.folder / name).unlink()
    assert_corrupted(snapshot)


@pytest.mark.parametrize("name", [BARS_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98])
def test_a_truncated_file_is_refused(snapshot: Snapshot, name: str, kept: float):
    path = snapshot.folder / name
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert_corrupted(snapshot)


def test_a_manifest_of_another_snapshot_is_refused(snapshot: Snapshot):
    path = snapshot.folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": "0123456789abcdef"}))
    assert_corrupted(snapshot)


@pytest.mark.parametrize("content", ["null", "[]", "{}", '{"digest": 1, "unknown": 2}'])
def test_a_manifest_of_another_form_is_refused(snapshot: Snapshot, content: str):
    (snapshot.folder / MANIFEST_FILE).write_text(content)
    assert_corrupted(snapshot)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError("no space left on device")])
def test_an_interrupted_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException] | BaseException
):
    seen: list[list[str]] = []

    def fail_after_the_bars_are_written(*_: object) -> dict[str, object]:
        seen.append([path.name for path in tmp_path.glob("*/*")])
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "asdict", fail_after_the_bars_are_written)
        with pytest.raises((KeyboardInterrupt, OSError)):
            write_snapshot(delivery(), tmp_path)
    assert seen == [[BARS_FILE]]
    assert list(tmp_path.iterdir()) == []
    assert write_snapshot(delivery(), tmp_path).digest == bars_digest(delivery().bars)


def test_the_remains_of_a_killed_write_are_ignored(tmp_path: Path):
    remains = tmp_path / ".staging-killed"
    remains.mkdir()
    (remains / BARS_FILE).write_bytes(b"half")
    written = write_snapshot(delivery(), tmp_path)
    with pytest.raises(InputError) as refused:
        load_snapshot("0123456789abcdef", tmp_path)
    assert f"(stored: {written.digest})" in str(refused.value)


def test_content_that_another_process_stored_first_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill = snapshots._write_files

    def fill_after_the_other(folder: Path, manifest: Manifest, bars: dict[str, pd.DataFrame]) -> None:
        (tmp_path / manifest.digest).mkdir()
        fill(tmp_path / manifest.digest, replace(manifest, source="the other"), bars)
        fill(folder, manifest, bars)

    monkeypatch.setattr(snapshots, "_write_files", fill_after_the_other)
    written = write_snapshot(delivery(), tmp_path)
    assert written.manifest.source == "the other"
    assert [path.name for path in tmp_path.iterdir()] == [written.digest]


def test_an_unknown_digest_lists_the_known_ones(snapshot: Snapshot, tmp_path: Path):
    other = write_snapshot(delivery(days=41), tmp_path)
    with pytest.raises(InputError) as refused:
        load_snapshot("0123456789abcdef", tmp_path)
    known = ", ".join(sorted([snapshot.digest, other.digest]))
    assert str(refused.value).startswith(f"DATA=0123456789abcdef: no such snapshot (stored: {known})")


def test_an_unknown_digest_in_an_empty_store_says_that_there_are_none(tmp_path: Path):
    with pytest.raises(InputError, match="stored: none"):
        load_snapshot("0123456789abcdef", tmp_path)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_folder_of_snapshots_is_never_called_a_corrupted_snapshot(snapshot: Snapshot, name: str):
    with pytest.raises(InputError, match=r"no such snapshot"):
        load_snapshot(name, snapshot.folder.parent)


def test_an_unknown_symbol_lists_the_known_ones(snapshot: Snapshot):
    with pytest.raises(InputError, match=rf"SYMBOL=XYZ: not in snapshot {snapshot.digest}; give one of ABC, ABD"):
        snapshot.of("XYZ")
