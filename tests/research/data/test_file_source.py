from __future__ import annotations

import gzip
import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.bars import OHLCV, PRICES, bars_digest
from research.data.file_source import fetch
from research.data.sources import Request, SourceBars
from research.data.validation import validate
from research.errors import InputError
from tests.conftest import random_bars

HEADER = "date,open,high,low,close,volume"
GOOD = f"{HEADER}\n2020-01-02,1,2,1,1.5,5\n2020-01-03,2,3,2,2.5,6\n"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(path: str | Path, *symbols: str, start: date | None = None, end: date | None = None, **settings: str) -> SourceBars:
    asked = {"path": str(path), **settings}
    return fetch(Request(source="file", symbols=symbols, start=start, end=end, settings=asked))


def written(text: str, name: str = "spy.csv") -> str:
    Path(name).write_text(text)
    return name


def refusal(path: str, *symbols: str, **settings: str) -> str:
    with pytest.raises(InputError) as refused:
        ask(path, *symbols, **settings)
    return str(refused.value)


def actions(bars: pd.DataFrame) -> pd.DataFrame:
    """With a dividend and two splits."""
    bars = bars.assign(dividends=0.0, splits=0.0)
    bars.iloc[[5, 20], bars.columns.get_loc("dividends")] = 0.5
    bars.iloc[[10, 30], bars.columns.get_loc("splits")] = [2.0, 0.25]
    return bars


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=10)
def test_a_csv_and_the_parquet_of_the_same_bars_are_the_same_bars(seed: int):
    bars = actions(random_bars(seed, 40))
    bars.to_csv("abc.csv")
    bars.to_csv("abc.csv.gz")
    bars.to_parquet("abc.parquet")
    bars.reset_index().to_parquet("ABC.parquet")
    delivered = [ask(name).bars for name in ("abc.csv", "abc.csv.gz", "abc.parquet", "ABC.parquet")]
    for one in delivered:
        pd.testing.assert_frame_equal(one["ABC"], bars, check_freq=False, check_index_type=False, check_exact=True)
    assert {bars_digest(one) for one in delivered} == {bars_digest({"ABC": bars})}


def test_one_file_holds_many_instruments_by_a_symbol_column(bundled_bars: dict[str, pd.DataFrame]):
    pd.concat(bundled_bars, names=["Ticker", "Date"]).reset_index().to_csv("indices.csv", index=False)
    assert bars_digest(ask("indices.csv").bars) == bars_digest(bundled_bars)
    assert list(ask("indices.csv", "^IXIC").bars) == ["^IXIC"]
    assert refusal("indices.csv", "^IXIC", "SPY", "QQQ") == "SYMBOLS=SPY,QQQ: not in the file; give one of ^GSPC, ^IXIC."


def test_a_file_without_a_symbol_column_gets_the_requested_symbol_or_the_file_name():
    assert list(ask(written(GOOD, "brk.b.csv")).bars) == ["BRK.B"]
    assert list(ask(written(GOOD, "download.csv"), "^GSPC").bars) == ["^GSPC"]
    assert refusal("download.csv", "A", "B") == "SYMBOLS=A,B: not in the file; give one of DOWNLOAD."


def test_a_folder_is_one_instrument_per_file():
    Path("prices").mkdir()
    written(GOOD, "prices/spy.csv")
    written(GOOD, "prices/notes.txt")
    random_bars(1, 10).to_parquet("prices/qqq.parquet")
    delivered = ask("prices")
    assert list(delivered.bars) == ["QQQ", "SPY"]
    assert list(ask("prices", "SPY").bars) == ["SPY"]
    assert set(delivered.request) == {"path", "sha256 spy.csv", "sha256 qqq.parquet"}
    written(GOOD, "prices/SPY.parquet.csv.gz")
    assert refusal("prices").startswith("SPY.parquet.csv.gz: cannot be read as gz")


def test_a_folder_may_hold_an_instrument_once():
    Path("prices").mkdir()
    written(GOOD, "prices/spy.csv")
    random_bars(1, 10).to_parquet("prices/spy.parquet")
    assert refusal("prices") == "DATA=spy.parquet: another file of the folder has SPY too; keep one of them."


def test_the_request_names_file_and_content_and_no_folder(tmp_path: Path):
    written(GOOD)
    delivered = ask(tmp_path / "spy.csv", start=date(2020, 1, 3), calendar="XNYS", kind="fund", columns="close=Close")
    assert delivered.request == {
        "path": "spy.csv",
        "sha256 spy.csv": hashlib.sha256(GOOD.encode()).hexdigest(),
        "calendar": "XNYS",
        "kind": "fund",
        "columns": "close=Close",
        "start": "2020-01-03",
    }
    assert str(tmp_path) not in repr(delivered)
    assert (delivered.source, delivered.licence) == ("file", "the user's own")


def test_the_user_says_calendar_and_kind():
    assert [(i.calendar, i.kind) for i in ask(written(GOOD)).instruments.values()] == [("", "other")]
    (instrument,) = ask("spy.csv", calendar="XNYS", kind="index").instruments.values()
    assert (instrument.calendar, instrument.kind) == ("XNYS", "index")
    assert (
        refusal("spy.csv", kind="etf")
        == "KIND=etf: no such kind; give one of index, fund, stock, currency, crypto, simulated, other."
    )


def test_sessions_of_a_file_are_checked_once_its_exchange_is_named():
    written(GOOD.replace("2020-01-03", "2020-01-07"))
    now = datetime(2020, 2, 1, tzinfo=UTC)
    (finding,) = validate(ask("spy.csv"), now=now).findings
    assert finding.rule == "no-calendar"
    with pytest.raises(InputError, match="SPY: there is no bar on 2020-01-03, 2020-01-06, when XNYS was open"):
        validate(ask("spy.csv", calendar="XNYS"), now=now)


def test_only_the_requested_days_are_returned():
    bars = random_bars(1, 30)
    bars.to_csv("abc.csv")
    first, last = bars.index[5].date(), bars.index[9].date()
    assert list(ask("abc.csv", start=first, end=last).bars["ABC"].index) == list(bars.index[5:10])


@pytest.mark.parametrize(
    "header",
    [
        "Date,Open,High,Low,Close,Volume",
        "TIMESTAMP,o,h,l,c,v",
        " day , OPEN , high , low , close , vol ",
        "\ufeffdatetime,Open,High,Low,Close,VOL",
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_usual_names_are_found_whatever_their_case(header: str, delimiter: str):
    text = GOOD.replace(HEADER, header).replace(",", delimiter)
    Path("spy.csv").write_text(text, encoding="utf-8")
    assert ask("spy.csv").bars["SPY"].to_numpy().tolist() == [[1, 2, 1, 1.5, 5], [2, 3, 2, 2.5, 6]]


@pytest.mark.parametrize("names", ["Adj Close,Volume,Dividends,Stock Splits", "adj_close,vol,dividend,stock-splits"])
def test_columns_of_actions_are_found_and_may_be_empty(names: str):
    header = f"Date,Open,High,Low,Close,{names}"
    text = f"{header}\n2020-01-02,1,2,1,2,1.9,5,,\n2020-01-03,2,3,2,3,null,6,0.25,2\n"
    bars = ask(written(text)).bars["SPY"]
    assert list(bars.columns) == [*OHLCV, "adj_close", "dividends", "splits"]
    assert bars["dividends"].tolist() == [0.0, 0.25]
    assert bars["splits"].tolist() == [0.0, 2.0]
    assert bars["adj_close"].isna().tolist() == [False, True]


def test_unusual_names_are_mapped():
    header, rows = "As Of,PX_OPEN,high,low,px_last,close,volume", GOOD.removeprefix(HEADER)
    text = header + rows.replace(",5\n", ",99,5\n").replace(",6\n", ",99,6\n")
    bars = ask(written(text), columns="date=as of, open=PX_OPEN,close=px_last").bars["SPY"]
    assert bars[PRICES].to_numpy().tolist() == [[1, 2, 1, 1.5], [2, 3, 2, 2.5]]
    assert bars["volume"].tolist() == [5, 6]


def test_a_column_that_is_named_is_nothing_else():
    bars = ask(written(GOOD.replace("close", "adj close")), columns="close=adj close").bars["SPY"]
    assert list(bars.columns) == OHLCV


@pytest.mark.parametrize(
    ("header", "columns", "said"),
    [
        (
            "date,open,high,low,px_last,volume",
            "",
            "spy.csv: no column for close; name it with COLUMNS=close=<column> "
            "(columns of the file: date, open, high, low, px_last, volume).",
        ),
        (
            "as_of,open,high,low,px_last,volume",
            "date=as_of",
            "spy.csv: no column for close; name it with COLUMNS=date=as_of,close=<column> "
            "(columns of the file: as_of, open, high, low, px_last, volume).",
        ),
        (
            "date,open,high,low,close,Timestamp",
            "volume=open,open=close,close=low",
            "spy.csv: date may be date or Timestamp; choose one with COLUMNS=volume=open,open=close,close=low,date=date "
            "(columns of the file: date, open, high, low, close, Timestamp).",
        ),
        (HEADER, "close=px", "COLUMNS=close=px: spy.csv has no such column; give one of date, open, high, low, close, volume."),
        (
            HEADER,
            "price=close",
            "COLUMNS=price=close: 'price' is not a column of bars; give one of date, open, high, low, close, ",
        ),
        (HEADER, "close", "COLUMNS=close: 'close' names no column; write it as close=px_last."),
        (HEADER, "close=", "COLUMNS=close=: 'close=' names no column; write it as close=px_last."),
        (
            HEADER,
            "close=open,close=low",
            "COLUMNS=close=open,close=low: 'close=low' names a column a second time; name each once.",
        ),
        (HEADER, "close=low,open=low", "COLUMNS=close=low,open=low: 'open=low' names a column a second time; name each once."),
        ("date,open,high,low,close,close", "", "spy.csv: two columns are called 'close'; give each a name of its own."),
        (
            "Close,open,high,low,CLOSE,volume",
            "close=close",
            "COLUMNS=close=close: spy.csv has no such column; give one of Close, open, high, low, CLOSE, volume.",
        ),
    ],
)
def test_a_mistake_in_the_columns_says_what_to_type(header: str, columns: str, said: str):
    assert refusal(written(GOOD.replace(HEADER, header)), columns=columns).startswith(said)


NUMBER = "write a plain number such as 1234.5, without thousands separators, currency signs or units."


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('2020-01-03,2,"1,003",2,3,6', f"spy.csv line 4: high is '1,003'; {NUMBER}"),
        ("2020-01-03,2,3,2,$3,6", f"spy.csv line 4: close is '$3'; {NUMBER}"),
        ("2020-01-03,2,3,2,3,6M", f"spy.csv line 4: volume is '6M'; {NUMBER}"),
        ("2020-01-03,2,3 €,2,3,6", f"spy.csv line 4: high is '3 €'; {NUMBER}"),
        (
            "2020-01-03,2,1,003,2,3,6",
            "spy.csv line 4: 7 cells, but the header has 6; remove commas from numbers, or add the missing cells.",
        ),
        (
            "2020-01-03,2,3,",
            "spy.csv line 4: 4 cells, but the header has 6; remove commas from numbers, or add the missing cells.",
        ),
        ("01/03/2020,2,3,2,3,6", "spy.csv line 4: date is '01/03/2020'; write dates as 2020-12-31."),
        ("2020-02-30,2,3,2,3,6", "spy.csv line 4: date is '2020-02-30'; write dates as 2020-12-31."),
        (",2,3,2,3,6", "spy.csv line 4: date is ''; write dates as 2020-12-31."),
        (
            "2020-01-03 09:30,2,3,2,3,6",
            "spy.csv line 4: date is '2020-01-03 09:30'; intraday bars are not supported; "
            "give one bar per day, dated without a time.",
        ),
        (
            "2020-01-03T05:00:00Z,2,3,2,3,6",
            "spy.csv line 4: date is '2020-01-03T05:00:00Z'; intraday bars are not supported; "
            "give one bar per day, dated without a time.",
        ),
    ],
)
def test_a_bad_cell_is_named_by_line_and_value(row: str, said: str):
    assert refusal(written(f"{HEADER}\n2020-01-02,1,2,1,2,5\n\n{row}\n2020-01-06,2,3,2,3,6\n")) == said


def test_the_first_of_several_bad_cells_of_a_column_is_named():
    rows = "".join(f"2020-01-{day:02},{open_},3,2,3,6\n" for day, open_ in [(2, "2"), (3, "two"), (6, "three")])
    assert refusal(written(f"{HEADER}\n{rows}")).startswith("spy.csv line 3: open is 'two'")


def test_empty_prices_are_left_for_validation_to_name():
    bars = ask(written(GOOD.replace("2020-01-03,2,3", "2020-01-03,2,NaN").replace("2.5,6", ",6")))
    assert bars.bars["SPY"].iloc[1].isna().tolist() == [False, True, False, True, False]
    with pytest.raises(InputError, match="SPY: a price is not finite on 2020-01-03"):
        validate(bars, now=datetime(2020, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "day",
    [
        "20200103",
        "2020/01/03",
        "2020-01-03 00:00",
        "2020-01-03T00:00:00",
        "2020-01-03 00:00:00-05:00",
        "2020-01-03T00:00:00.000Z",
    ],
)
def test_the_local_date_is_the_one_that_is_written(day: str):
    assert ask(written(GOOD.replace("2020-01-03", day))).bars["SPY"].index[1] == pd.Timestamp("2020-01-03")


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Pacific/Auckland"])
def test_dates_with_a_time_zone_are_local_dates(zone: str):
    bars = random_bars(1, 200)
    bars.tz_localize(zone).to_parquet("abc.parquet")
    bars.tz_localize(zone).to_csv("abc.csv")
    for name in ("abc.parquet", "abc.csv"):
        assert bars_digest(ask(name).bars) == bars_digest({"ABC": bars})
    bars.tz_localize(zone).tz_convert("UTC").to_parquet("abc.parquet")
    assert refusal("abc.parquet").startswith("abc.parquet row 1: date is '20")


def test_typed_dates_of_a_parquet_file_are_dates():
    table = random_bars(1, 20).reset_index()
    for name, days in {"day": table["date"].dt.date, "number": table["date"].dt.strftime("%Y%m%d").astype(int)}.items():
        table.assign(date=days).to_parquet(f"{name}.parquet")
        assert bars_digest({"X": ask(f"{name}.parquet", "X").bars["X"]}) == bars_digest({"X": random_bars(1, 20)})


def test_rows_without_a_symbol_are_refused():
    text = f"{HEADER},symbol\n2020-01-02,1,2,1,2,5,SPY\n2020-01-03,1,2,1,2,5,\n"
    assert refusal(written(text)) == "spy.csv line 3: symbol is ''; name the instrument of every row."


def test_newest_first_is_turned_round_and_any_other_disorder_is_left_for_validation():
    bars = random_bars(1, 20)
    bars[::-1].to_csv("abc.csv")
    delivered = ask("abc.csv")
    assert bars_digest(delivered.bars) == bars_digest({"ABC": bars})
    assert delivered.notes == ["ABC: the file begins with the newest day; its order was reversed."]
    bars.iloc[[1, 0, *range(2, 20)]].to_csv("abc.csv")
    with pytest.raises(InputError, match="ABC: dates are not increasing"):
        validate(ask("abc.csv"), now=datetime(2020, 2, 1, tzinfo=UTC))


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=10)
def test_raw_prices_are_adjusted_for_splits_here(seed: int):
    adjusted = actions(random_bars(seed, 40))
    later = np.where(np.arange(40) < 10, 2.0 * 0.25, np.where(np.arange(40) < 30, 0.25, 1.0))
    raw = adjusted.assign(volume=adjusted["volume"] / later, dividends=adjusted["dividends"] * later)
    raw[PRICES] = adjusted[PRICES].mul(later, axis=0)
    raw.to_csv("abc.csv")
    delivered = ask("abc.csv", prices="raw", kind="stock")
    pd.testing.assert_frame_equal(delivered.bars["ABC"], adjusted, check_freq=False, check_index_type=False, rtol=1e-12)
    assert delivered.notes == ["ABC: the file's raw prices were adjusted for 2 splits."]
    now = datetime(2020, 2, 1, tzinfo=UTC)
    assert [finding.rule for finding in validate(delivered, now=now).findings] == ["no-calendar"]
    with pytest.raises(InputError, match=r"prices are not split-adjusted.*PRICES=raw"):
        validate(ask("abc.csv", kind="stock"), now=now)


def test_raw_prices_need_splits():
    assert refusal(written(GOOD), prices="raw") == (
        "PRICES=raw: SPY has no column of splits; name it with COLUMNS=splits=<column>."
    )
    assert refusal("spy.csv", prices="adjusted") == "PRICES=adjusted: no such form; give split-adjusted or raw."


def test_a_path_that_is_not_a_file_of_bars_is_refused():
    assert refusal("absent.csv") == "DATA=absent.csv: no such file or folder; check the path."
    endings = "ends with .csv, .csv.gz, .parquet."
    assert refusal(written(GOOD, "spy.xlsx")) == f"DATA=spy.xlsx: not a table; give a file that {endings}"
    Path("prices").mkdir()
    assert refusal("prices") == f"DATA=prices: the folder has no table; add files that {endings.replace('ends', 'end')}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("spy.parquet", b"PAR1 and then something else"),
        ("spy.csv.gz", gzip.compress(GOOD.encode())[:-12]),
        ("spy.csv", GOOD.encode("utf-16")),
        ("spy.csv", GOOD.replace("2020-01-03", '"2020-01-03').encode()),
    ],
    ids=["parquet", "truncated gzip", "UTF-16", "open quote"],
)
def test_a_damaged_file_is_refused(name: str, content: bytes):
    Path(name).write_bytes(content)
    assert f"{name}: cannot be read as {name.split('.')[-1]} (" in refusal(name)


def test_a_file_without_rows_is_refused():
    with pytest.raises(InputError, match="SPY: there are no bars"):
        validate(ask(written(f"{HEADER}\n")), now=datetime(2020, 2, 1, tzinfo=UTC))
    assert refusal(written("")).startswith("spy.csv: no column for date")
