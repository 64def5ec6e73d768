from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from research.data.bundled import FILES, _arch_data_folder, bundled
from research.data.sources import SOURCES, slug, source_named
from research.errors import InputError


@pytest.mark.parametrize("symbol", ["^GSPC", "^IXIC"])
def test_each_bundled_instrument_has_twenty_years_of_sessions(bundled_bars: dict[str, pd.DataFrame], symbol: str):
    bars = bundled_bars[symbol]
    assert len(bars) == 5031
    assert (str(bars.index[0].date()), str(bars.index[-1].date())) == ("1999-01-04", "2018-12-31")
    assert list(bars.columns) == ["open", "high", "low", "close", "adj_close", "volume"]
    assert set(map(str, bars.dtypes)) == {"float64"}


def test_the_bundled_source_records_its_request_and_licence():
    delivered = bundled()
    assert set(delivered.bars) == {"^GSPC", "^IXIC"}
    assert delivered.source == "bundled"
    assert delivered.request == {symbol: f"arch.data/{name}" for symbol, (name, _) in FILES.items()}
    assert "Illinois/NCSA" in delivered.licence
    assert set(delivered.versions) == {"arch"}


def test_known_prices_are_read_from_the_right_columns(sp500: pd.DataFrame):
    assert sp500.loc["2008-10-13", ["open", "high", "low", "close"]].round(2).tolist() == [912.75, 1006.93, 912.75, 1003.35]


@pytest.mark.parametrize("symbol", ["^GSPC", "^IXIC"])
def test_a_tampered_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symbol: str):
    for name, _ in FILES.values():
        (tmp_path / name).parent.mkdir()
        shutil.copy(_arch_data_folder() / name, tmp_path / name)
    monkeypatch.setattr("research.data.bundled._arch_data_folder", lambda: tmp_path)
    assert set(bundled().bars) == set(FILES)

    name, expected = FILES[symbol]
    content = bytearray((tmp_path / name).read_bytes())
    content[4] ^= 1  # the time stamp in the gzip header: the rows still read the same
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as refused:
        bundled()
    assert Path(name).name in str(refused.value)
    assert expected[:12] in str(refused.value)
    assert "make setup" in str(refused.value)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_of_the_table_has_a_fetch_function(name: str):
    assert callable(source_named(name))


def test_an_unknown_source_lists_the_ones_there_are():
    with pytest.raises(InputError, match="SOURCE=google: no such source; give bundled, yahoo, file, synthetic"):
        source_named("google")


@pytest.mark.parametrize(("symbol", "name"), [("^GSPC", "sp500"), ("^IXIC", "nasdaq"), ("BRK-B", "brkb"), ("^N225", "n225")])
def test_an_instrument_has_a_name_without_special_letters(symbol: str, name: str):
    assert slug(symbol) == name
