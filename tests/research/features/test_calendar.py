from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from research.features.calendar import CALENDAR_FEATURES
from research.features.feature import Bars


def calendar(days: list[str] | pd.DatetimeIndex) -> pd.DataFrame:
    index = pd.DatetimeIndex(days)
    ones = np.ones(len(index))
    bars = Bars(days=index, open=ones, high=ones, low=ones, close=ones, volume=ones)
    return pd.DataFrame({feature.name: feature.compute(bars) for feature in CALENDAR_FEATURES}, index=index)


def test_days_since_the_last_session_are_calendar_days():
    found = calendar(["2024-03-27", "2024-03-28", "2024-04-01", "2024-04-02", "2024-06-02"])["since_last_session"]
    np.testing.assert_allclose(np.exp(found), [np.nan, 1, 4, 1, 10])


def test_weekdays_and_months_are_places_on_a_circle():
    found = calendar(pd.date_range("2023-01-01", "2023-12-31"))
    for name, cycles in {"weekday": 7, "month": 12}.items():
        places = found[[f"{name}_sine", f"{name}_cosine"]].round(9)
        assert len(places.drop_duplicates()) == cycles
        np.testing.assert_allclose((places**2).sum(axis=1), 1)
    assert found.loc["2023-01-02", "weekday_cosine"] == 1.0
    assert found.loc["2023-01-02", "month_cosine"] == 1.0


@pytest.mark.parametrize(
    ("day", "turn"),
    [
        ("2024-05-30", 0),
        ("2024-05-31", 1),
        ("2024-06-03", 1),
        ("2024-06-05", 1),
        ("2024-06-06", 0),
        ("2024-06-28", 1),  # a Friday, the last weekday of June
        ("2024-06-27", 0),
        ("2024-08-01", 1),
        ("2024-08-03", 1),  # a Saturday, where markets never close
        ("2024-08-06", 0),
        ("2024-09-28", 0),  # a Saturday, a weekday before the last
    ],
)
def test_the_turn_of_a_month_is_its_last_weekday_and_its_first_three(day: str, turn: int):
    assert calendar([day])["turn_of_month"].tolist() == [turn]


def test_a_session_does_not_know_whether_the_next_weekday_is_a_holiday():
    """2024-03-28 was the last session of its month, since Good Friday followed; dates alone do not say so."""
    assert calendar(["2024-03-28"])["turn_of_month"].tolist() == [0]
