from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.bars import PRICES
from research.data.bundled import bundled
from research.data.calendars import calendar_named
from research.data.sources import Instrument, Kind, SourceBars
from research.data.validation import Validated, validate
from research.data.validation_rules import ALLOWABLE, RULES
from research.errors import InputError
from tests.conftest import random_bars

NOW = datetime(2025, 1, 1, tzinfo=UTC)
NEW_YORK = timezone(timedelta(hours=-5))
ROW = 7  # 2020-01-13, a Monday

Damage = Callable[[pd.DataFrame], pd.DataFrame]


def on_sessions(seed: int, days: int, first: str = "2020-01-02", calendar: str = "XNYS") -> pd.DataFrame:
    """Valid bars on the sessions of an exchange."""
    sessions = calendar_named(calendar).sessions
    start = sessions.searchsorted(pd.Timestamp(first))
    return random_bars(seed, days).set_index(sessions[start : start + days].rename("date"))


def delivery(bars: dict[str, pd.DataFrame], kind: Kind = "stock", calendar: str = "XNYS") -> SourceBars:
    instruments = {symbol: Instrument(calendar=calendar, kind=kind) for symbol in bars}
    return SourceBars(source="made", bars=bars, request={}, licence="none", instruments=instruments)


def examined(
    bars: pd.DataFrame, kind: Kind = "stock", calendar: str = "XNYS", now: datetime = NOW, allow: tuple[str, ...] = ()
):
    return validate(delivery({"ABC": bars}, kind, calendar), now=now, allow=allow)


def refusal(bars: pd.DataFrame, kind: Kind = "stock", allow: tuple[str, ...] = ()) -> str:
    with pytest.raises(InputError) as refused:
        examined(bars, kind, allow=allow)
    return str(refused.value)


def sentences(validated: Validated) -> list[str]:
    return [finding.sentence for finding in validated.findings]


def cell(bars: pd.DataFrame, column: str, value: float, row: int = ROW) -> pd.DataFrame:
    bars = bars.copy()
    bars.iloc[row, bars.columns.get_loc(column)] = value
    return bars


def redated(bars: pd.DataFrame, day: str, row: int = ROW) -> pd.DataFrame:
    days = bars.index.to_list()
    days[row] = pd.Timestamp(day)
    return bars.set_index(pd.DatetimeIndex(days))


def repeated(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.iloc[[*range(ROW + 1), *range(ROW, len(bars))]]


def swapped(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.iloc[[*range(ROW - 1), ROW, ROW - 1, *range(ROW + 1, len(bars))]]


def extra(bars: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([bars, redated(bars.iloc[[ROW]], "2020-01-18", 0)]).sort_index()


def scaled_from(bars: pd.DataFrame, factor: float, row: int = ROW) -> pd.DataFrame:
    """Prices from a day on times a factor, as a split that nobody adjusted for."""
    bars = bars.copy()
    bars.iloc[row:, :4] *= factor
    return bars


def flat(bars: pd.DataFrame) -> pd.DataFrame:
    bars = bars.copy()
    bars.iloc[ROW, :4] = bars["close"].iloc[ROW]
    return bars


MEND = "correct the source and run `make data` again."

ERRORS: dict[str, tuple[Damage, str]] = {
    "time-of-day": (
        lambda bars: redated(bars, "2020-01-13 09:30"),
        f"ABC: a date has a time of day on 2020-01-13 (time-of-day); {MEND}",
    ),
    "duplicate-date": (repeated, f"ABC: a date comes twice on 2020-01-13 (duplicate-date); {MEND}"),
    "unordered-dates": (swapped, f"ABC: dates are not increasing on 2020-01-10 (unordered-dates); {MEND}"),
    "non-finite-price": (
        lambda bars: cell(bars, "open", np.nan),
        f"ABC: a price is not finite on 2020-01-13 (non-finite-price); {MEND}",
    ),
    "non-positive-price": (
        lambda bars: cell(bars, "close", -1.0),
        f"ABC: a price is not positive on 2020-01-13 (non-positive-price); {MEND}",
    ),
    "bad-volume": (
        lambda bars: cell(bars, "volume", -5.0),
        f"ABC: volume is negative or not finite on 2020-01-13 (bad-volume); {MEND}",
    ),
    "bad-action": (
        lambda bars: cell(bars.assign(splits=0.0), "splits", np.inf),
        f"ABC: a dividend or split is negative or not finite on 2020-01-13 (bad-action); {MEND}",
    ),
    "high-too-low": (
        lambda bars: cell(bars, "high", bars[["open", "close"]].iloc[ROW].max() * 0.9999),
        f"ABC: high is below open, low or close on 2020-01-13 (high-too-low); {MEND}",
    ),
    "low-too-high": (
        lambda bars: cell(bars, "low", bars[["open", "close"]].iloc[ROW].min() * 1.0001),
        f"ABC: low is above open or close on 2020-01-13 (low-too-high); {MEND}",
    ),
    "missing-session": (
        lambda bars: bars.drop(bars.index[[ROW, ROW + 1, ROW + 3, ROW + 4, ROW + 5]]),
        "ABC: there is no bar on 2020-01-13, 2020-01-14, 2020-01-16 and 2 more days, when XNYS was open (missing-session); "
        "fetch these days again, or add their bars.",
    ),
    "extra-session": (
        extra,
        "ABC: there is a bar on 2020-01-18, when XNYS was closed (extra-session); "
        "remove these bars, or give the right CALENDAR.",
    ),
    "not-split-adjusted": (
        lambda bars: cell(scaled_from(bars.assign(splits=0.0), 0.5), "splits", 2.0),
        "ABC: the close jumps by the ratio of the declared split on 2020-01-13: prices are not split-adjusted "
        "(not-split-adjusted); adjust them, or give a file with PRICES=raw.",
    ),
    "jump-without-split": (
        lambda bars: scaled_from(bars, 0.5),
        "ABC: the close leaves -45% .. +82% on 2020-01-13 and no split explains it (jump-without-split); "
        "adjust prices for the split, or correct the wrong price.",
    ),
    "zero-volume": (
        lambda bars: cell(bars, "volume", 0.0),
        "ABC: volume is zero on 2020-01-13 (zero-volume); remove bars without a trade, or correct their volume.",
    ),
    "future-bar": (
        lambda bars: redated(redated(bars, "2035-01-02", -2), "2035-01-03", -1),
        "ABC: there are bars of sessions that have not ended, on 2035-01-02 (future-bar); "
        "correct their dates and run `make data` again.",
    ),
}


@pytest.fixture
def bars() -> pd.DataFrame:
    return on_sessions(seed=3, days=40)


def test_every_rule_that_stops_has_a_message_here():
    assert set(ERRORS) == {name for name, rule in RULES.items() if rule.stops}


@pytest.mark.parametrize("name", [name for name in ERRORS if name != "future-bar"])
def test_the_message_of_a_broken_rule_has_symbol_days_and_fix(bars: pd.DataFrame, name: str):
    damage, line = ERRORS[name]
    allowable = f"\nIf the bars are correct nevertheless, add ALLOW={name}." if name in ALLOWABLE else ""
    assert refusal(damage(bars)) == f"made: nothing was stored, because the bars break rules:\n  {line}{allowable}"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", PRICES)
def test_a_price_that_is_not_a_number_breaks_only_one_rule(bars: pd.DataFrame, column: str, value: float):
    assert refusal(cell(bars, column, value)).splitlines()[1:] == [f"  {ERRORS['non-finite-price'][1]}"]


def test_bars_of_the_future_are_refused(bars: pd.DataFrame):
    damage, line = ERRORS["future-bar"]
    with pytest.raises(InputError) as refused:
        examined(damage(bars), calendar="")
    assert line in str(refused.value)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda bars: bars.drop(columns="volume"), "column volume is missing; bars need open, high, low, close, volume"),
        (lambda bars: bars.iloc[:0], "there are no bars; choose another period or symbol"),
        (lambda bars: bars.tz_localize("UTC"), "the index must be dates without a time zone"),
    ],
)
def test_a_table_that_is_not_bars_is_refused(bars: pd.DataFrame, damage: Damage, error: str):
    assert refusal(damage(bars)) == f"made: nothing was stored, because the bars break rules:\n  ABC: {error}."


def test_every_broken_rule_of_every_symbol_is_in_one_message(bars: pd.DataFrame):
    damaged = {
        "AAA": scaled_from(cell(bars, "volume", 0.0, row=3).drop(bars.index[20]), 2.0, row=30),
        "BBB": bars,
        "CCC": bars.drop(columns="open"),
        "DDD": cell(bars, "low", np.nan),
    }
    with pytest.raises(InputError) as refused:
        validate(delivery(damaged), now=NOW)
    first, *lines, last = str(refused.value).splitlines()
    assert first == "made: nothing was stored, because the bars break rules:"
    assert [line.split(" on ")[0].strip() for line in lines] == [
        "AAA: there is no bar",
        "AAA: the close leaves -45% .. +82%",
        "AAA: volume is zero",
        "CCC: column open is missing; bars need open, high, low, close, volume.",
        "DDD: a price is not finite",
    ]
    assert last == "If the bars are correct nevertheless, add ALLOW=missing-session,jump-without-split,zero-volume."


@given(seed=st.integers(0, 10_000), days=st.integers(1, 300), first=st.dates(date(1990, 1, 2), date(2023, 6, 1)))
@settings(deadline=None, max_examples=60)
def test_valid_bars_on_sessions_pass_without_a_finding(seed: int, days: int, first: date):
    bars = on_sessions(seed, days, str(first))
    validated = examined(bars)
    assert validated.findings == []
    assert validated.bars["ABC"] is bars


ONE_DAY: dict[str, Callable[[pd.DataFrame, int], pd.DataFrame]] = {
    "duplicate-date": lambda bars, row: bars.iloc[[*range(row + 1), *range(row, len(bars))]],
    "time-of-day": lambda bars, row: redated(bars, f"{bars.index[row]:%Y-%m-%d} 16:00", row),
    "non-finite-price": lambda bars, row: cell(bars, PRICES[row % 4], [np.nan, np.inf, -np.inf][row % 3], row),
    "non-positive-price": lambda bars, row: cell(bars, PRICES[row % 4], -float(row % 2), row),
    "bad-volume": lambda bars, row: cell(bars, "volume", [np.nan, -1.0][row % 2], row),
    "high-too-low": lambda bars, row: cell(bars, "high", bars[["open", "close"]].iloc[row].max() * 0.9999, row),
    "low-too-high": lambda bars, row: cell(bars, "low", bars[["open", "close"]].iloc[row].min() * 1.0001, row),
    "missing-session": lambda bars, row: bars.drop(bars.index[row]),
    "jump-without-split": lambda bars, row: scaled_from(bars, [0.5, 2.0, 0.1, 1000.0][row % 4], row),
    "not-split-adjusted": lambda bars, row: cell(scaled_from(bars.assign(splits=0.0), 0.5, row), "splits", 2.0, row),
    "zero-volume": lambda bars, row: cell(bars, "volume", 0.0, row),
}


@given(st.sampled_from(sorted(ONE_DAY)), st.integers(0, 10_000), st.integers(1, 58))
@settings(deadline=None, max_examples=120)
def test_one_broken_day_is_named_with_its_rule_and_no_other(rule: str, seed: int, row: int):
    bars = on_sessions(seed, 60, "2019-11-01")
    lines = refusal(ONE_DAY[rule](bars, row)).splitlines()[1:]
    (line,) = [line for line in lines if line.startswith("  ABC")]
    assert f"({rule})" in line
    assert re.findall(r"\d{4}-\d\d-\d\d", line) == [f"{bars.index[row]:%Y-%m-%d}"]


def test_bundled_bars_keep_every_rule_and_every_session():
    assert sentences(validate(bundled(), now=NOW)) == [
        "^GSPC: open equals the previous close on 96% of the days in 1999-2005; "
        "opening prices of these years carry no information.",
        "^IXIC: volume is zero on 2015-05-12, 2018-01-09.",
    ]


@pytest.mark.parametrize("kind", ["index", "currency", "crypto", "other"])
def test_an_instrument_that_may_have_no_volume_is_only_warned(bars: pd.DataFrame, kind: Kind):
    assert sentences(examined(cell(bars, "volume", 0.0), kind)) == ["ABC: volume is zero on 2020-01-13."]


@pytest.mark.parametrize("kind", ["fund", "stock"])
def test_a_fund_or_stock_that_traded_has_volume(bars: pd.DataFrame, kind: Kind):
    assert "(zero-volume)" in refusal(cell(bars, "volume", 0.0), kind)


def test_flat_bars_and_stale_opens_are_warnings(bars: pd.DataFrame):
    assert sentences(examined(flat(bars))) == ["ABC: the bar is flat on 2020-01-13."]
    stale = bars.assign(open=bars["close"].shift(1, fill_value=bars["open"].iloc[0]))
    stale = stale.assign(high=stale[PRICES].max(axis=1), low=stale[PRICES].min(axis=1))
    (finding,) = examined(stale).findings
    assert finding.sentence == (
        "ABC: open equals the previous close on 100% of the days in 2020; opening prices of these years carry no information."
    )
    assert (finding.rule, finding.severity, len(finding.days)) == ("stale-open", "warning", 39)


@pytest.mark.parametrize("kind", ["index", "fund"])
@pytest.mark.parametrize("move", [-0.2047, -0.2261, -0.1198, 0.1158], ids=["1987 S&P", "1987 Dow", "COVID", "2008 up"])
def test_real_crashes_are_not_jumps(bars: pd.DataFrame, kind: Kind, move: float):
    steady = bars["close"].to_numpy()[ROW - 1] / bars["close"].to_numpy()[ROW]
    assert examined(scaled_from(bars, steady * (1 + move)), kind).findings == []


@pytest.mark.parametrize(("kind", "limit"), [("index", 0.35), ("fund", 0.35), ("stock", 0.6), ("crypto", 0.6)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_plausible_move_depends_on_the_kind(bars: pd.DataFrame, kind: Kind, limit: float, sign: int):
    steady = bars["close"].to_numpy()[ROW - 1] / bars["close"].to_numpy()[ROW]
    assert examined(scaled_from(bars, steady * np.exp(sign * (limit - 0.001))), kind).findings == []
    assert "(jump-without-split)" in refusal(scaled_from(bars, steady * np.exp(sign * (limit + 0.001))), kind)


def test_a_volatility_index_may_double_on_one_day():
    days = on_sessions(5, 500, "2017-01-03")
    restless = random_bars(5, 500, volatility=0.06).set_index(days.index)
    steady = restless["close"].to_numpy()[299] / restless["close"].to_numpy()[300]
    assert examined(scaled_from(restless, steady * 2.1, row=300), "index").findings == []
    assert "(jump-without-split)" in refusal(scaled_from(restless, steady * 10, row=300), "index")


@pytest.mark.parametrize("ratio", [1.5, 2.0, 7.0, 0.1, 0.8])
def test_a_declared_split_passes_where_prices_are_adjusted_and_not_where_they_are_raw(bars: pd.DataFrame, ratio: float):
    declared = cell(bars.assign(splits=0.0), "splits", ratio)
    assert examined(declared).findings == []
    message = refusal(scaled_from(declared, 1 / ratio))
    assert "not-split-adjusted" in message
    assert "jump-without-split)" not in message


def test_a_jump_against_a_declared_split_is_still_a_jump(bars: pd.DataFrame):
    twice_adjusted = scaled_from(cell(bars.assign(splits=0.0), "splits", 2.0), 2.0)
    assert "(jump-without-split)" in refusal(twice_adjusted)


def test_an_instrument_without_a_calendar_gets_a_warning(bars: pd.DataFrame):
    holes = bars.drop(bars.index[[5, 9]])
    assert sentences(examined(holes, calendar="")) == [
        "ABC: sessions are not checked, because no exchange calendar is known; give one with CALENDAR=."
    ]
    unknown = SourceBars(source="made", bars={"ABC": holes}, request={}, licence="none")
    assert [finding.rule for finding in validate(unknown, now=NOW).findings] == ["no-calendar"]


def test_sessions_before_1990_are_not_checked_and_later_ones_are():
    bars = random_bars(4, 60).set_index(pd.bdate_range("1989-11-15", periods=60, name="date"))
    lines = refusal(bars).splitlines()
    assert len(lines) == 3
    assert "there is a bar on 1990-01-01, when XNYS was closed" in lines[1]
    (finding,) = examined(bars.drop(pd.Timestamp("1990-01-01"))).findings
    assert finding.sentence == (
        f"ABC: sessions are checked from 1990-01-02 to {bars.index[-1]:%Y-%m-%d} only, "
        "because the calendar XNYS is unreliable otherwise."
    )
    assert finding.days == tuple(day.date() for day in bars.index if day.year == 1989)


def test_bars_before_the_calendar_get_a_warning():
    bars = random_bars(4, 60, "1985-01-02")
    assert sentences(examined(bars)) == [
        "ABC: sessions are checked on no day, because the calendar XNYS is unreliable otherwise."
    ]


def test_calendars_begin_where_they_are_known():
    assert str(calendar_named("XTKS").first.date()) == "1997-01-01"
    assert str(calendar_named("XNYS").sessions[0].date()) == "1990-01-02"


@pytest.mark.parametrize(
    ("name", "near"), [("XNYC", "XNYS"), ("nasdac", "NASDAQ"), ("xlon", "XLON"), ("new york stock exchange", "24/7")]
)
def test_an_unknown_calendar_names_close_ones(bars: pd.DataFrame, name: str, near: str):
    with pytest.raises(InputError, match=f"^CALENDAR={name}: no such exchange calendar; give one such as .*{near}"):
        examined(bars, calendar=name)


def last_on(day: str, calendar: str = "XNYS") -> pd.DataFrame:
    sessions = calendar_named(calendar).between(pd.Timestamp(day) - pd.Timedelta(days=30), pd.Timestamp(day))
    return on_sessions(2, len(sessions), str(sessions[0]), calendar)


@pytest.mark.parametrize(
    ("day", "calendar", "close"),
    [
        ("2024-07-10", "XNYS", datetime(2024, 7, 10, 20, tzinfo=UTC)),
        ("2024-01-10", "XNYS", datetime(2024, 1, 10, 16, tzinfo=NEW_YORK)),
        ("2024-11-29", "XNYS", datetime(2024, 11, 29, 13, tzinfo=NEW_YORK)),
        ("2024-07-10", "XTKS", datetime(2024, 7, 10, 6, tzinfo=UTC)),
        ("2024-07-13", "24/7", datetime(2024, 7, 14, tzinfo=UTC)),
        ("2024-07-10", "", datetime(2024, 7, 11, tzinfo=UTC)),
    ],
    ids=["summer", "winter", "half day", "Tokyo", "around the clock", "no calendar"],
)
def test_the_last_bar_is_dropped_until_its_session_has_closed(day: str, calendar: str, close: datetime):
    bars = last_on(day, calendar or "XNYS")
    assert str(bars.index[-1].date()) == day
    closed = examined(bars, calendar=calendar, now=close)
    assert len(closed.bars["ABC"]) == len(bars)
    before = examined(bars, calendar=calendar, now=close - timedelta(minutes=1))
    pd.testing.assert_frame_equal(before.bars["ABC"], bars.iloc[:-1])
    dropped = before.findings[0]
    utc = close.astimezone(UTC)
    assert (dropped.rule, dropped.days, dropped.severity) == ("unclosed-bar", (date.fromisoformat(day),), "warning")
    assert dropped.sentence == (
        f"ABC: the last bar, {day}, is left out, because its session ends at {utc:%Y-%m-%d %H:%M} UTC, "
        f"after this ingestion ({utc - timedelta(minutes=1):%Y-%m-%d %H:%M} UTC)."
    )


def test_a_broken_bar_that_is_dropped_stops_nothing(bars: pd.DataFrame):
    during = datetime(2020, 2, 28, 17, tzinfo=UTC)
    assert str(bars.index[-1].date()) == "2020-02-28"
    partial = cell(bars, "volume", 0.0, row=-1)
    assert [finding.rule for finding in examined(partial, now=during).findings] == ["unclosed-bar"]


def test_weekends_are_sessions_around_the_clock():
    bars = on_sessions(1, 30, "2024-01-01", "24/7")
    assert examined(bars, "crypto", "24/7").findings == []
    with pytest.raises(InputError, match=f"there is no bar on {bars.index[12]:%Y-%m-%d}, when 24/7 was open"):
        examined(bars.drop(bars.index[12]), "crypto", "24/7")


@pytest.mark.parametrize("name", ALLOWABLE)
def test_an_allowed_rule_is_a_warning_that_says_so(bars: pd.DataFrame, name: str):
    damage, line = ERRORS[name]
    damaged = damage(bars)
    validated = examined(damaged, allow=(name,))
    (finding,) = validated.findings
    assert finding.sentence == line.split(f" ({name});")[0] + f"; {name} was allowed."
    assert (finding.rule, finding.severity) == (name, "warning")
    assert validated.bars["ABC"] is damaged


def test_allowing_one_rule_leaves_the_others_in_force(bars: pd.DataFrame):
    damaged = cell(bars.drop(bars.index[20]), "volume", 0.0)
    message = refusal(damaged, allow=("zero-volume",))
    assert "(missing-session)" in message
    assert "volume is zero" not in message


@pytest.mark.parametrize("name", sorted(set(ERRORS) - set(ALLOWABLE)))
def test_a_rule_that_computation_rests_on_is_never_allowed(bars: pd.DataFrame, name: str):
    assert refusal(bars, allow=(name,)) == (
        f"ALLOW={name}: cannot be allowed, because such bars give no valid results; correct the source."
    )


@pytest.mark.parametrize(
    ("name", "hint"), [("missing-sessions", " (did you mean missing-session?)"), ("x", ""), ("flat-bar", "")]
)
def test_an_unknown_rule_lists_those_that_can_be_allowed(bars: pd.DataFrame, name: str, hint: str):
    assert refusal(bars, allow=(name,)) == (
        f"ALLOW={name}: no rule that can be allowed{hint}; give one of high-too-low, low-too-high, missing-session, "
        "extra-session, not-split-adjusted, jump-without-split, zero-volume."
    )


def test_exchange_calendars_is_loaded_only_when_sessions_are_checked():
    code = "import sys, research.data.validation; print('exchange_calendars' in sys.modules)"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_simulated_market_has_no_clock_no_exchange_and_no_limit_to_a_move():
    bars = random_bars(0, 300, start="2090-01-02")
    bars.iloc[100:, :4] *= 5
    validated = examined(bars, "simulated", calendar="")
    assert validated.findings == []
    assert len(validated.bars["ABC"]) == 300
    with pytest.raises(InputError, match="a price is not positive on"):
        examined(bars.assign(close=bars["close"].where(np.arange(300) != 7, -1.0)), "simulated", calendar="")
