from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from research.data.dividend_adjustment import adjusted
from research.errors import InputError
from research.features.feature_sets import build, feature_set_named
from research.features.reference_series import earlier_session, same_session
from tests.conftest import random_bars

DAYS = pd.DatetimeIndex(["2024-03-25", "2024-03-26", "2024-03-27", "2024-03-28", "2024-04-01"])  # Good Friday between


def closes(values: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame({"close": values.values()}, index=pd.DatetimeIndex(values.keys()))


def test_an_index_is_known_on_its_own_day_and_a_volatility_index_on_the_next():
    reference = pd.DataFrame({"close": [10.0, 11, 12, 13, 14]}, index=DAYS)
    assert same_session(DAYS, reference, "I").tolist() == [10, 11, 12, 13, 14]
    np.testing.assert_array_equal(earlier_session(DAYS, reference, "X"), [np.nan, 10, 11, 12, 13])


def test_a_volatility_index_with_an_earlier_history_has_a_value_on_the_first_day():
    reference = closes({"2024-03-22": 9.0, "2024-03-25": 10.0, "2024-03-28": 13.0})
    assert earlier_session(DAYS, reference, "X").tolist() == [9, 10, 10, 10, 13]


def test_a_missing_session_has_the_last_close_before():
    reference = closes({"2024-03-25": 10.0, "2024-03-28": 13.0, "2024-03-29": 13.5})
    assert same_session(DAYS, reference, "I").tolist() == [10, 10, 10, 13, 13.5]


def test_a_close_of_five_days_ago_is_used_and_one_of_six_is_refused():
    days = pd.DatetimeIndex(["2024-03-25", "2024-03-30"])
    reference = closes({"2024-03-25": 10.0})
    assert same_session(days, reference, "^GSPC").tolist() == [10, 10]
    with pytest.raises(InputError, match=r"INDEX=\^GSPC: no close of 2024-03-31 and none in the 5 days before .*2024-03-25"):
        same_session(days + pd.Timedelta(days=1), reference, "^GSPC")


def test_a_volatility_index_may_not_lag_the_session_before():
    reference = closes({"2024-03-18": 9.0, "2024-04-02": 20.0})
    with pytest.raises(InputError, match=r"VOLATILITY_INDEX=\^VIX: no close of 2024-03-25 .*2024-03-18"):
        earlier_session(DAYS, reference, "^VIX")


def test_a_long_closure_of_both_markets_is_not_a_gap():
    """In September 2001 no market opened for six days."""
    days = pd.DatetimeIndex(["2001-09-07", "2001-09-10", "2001-09-17", "2001-09-18"])
    reference = pd.DataFrame({"close": [1.0, 2, 3, 4]}, index=days)
    np.testing.assert_array_equal(earlier_session(days, reference, "X"), [np.nan, 1, 2, 3])


def test_a_reference_that_begins_late_is_refused_with_its_first_day():
    with pytest.raises(InputError, match=r"INDEX=I: no close of 2024-03-25 .*it begins 2024-03-27"):
        same_session(DAYS, closes({"2024-03-27": 1.0, "2024-03-28": 1.0}), "I")


@pytest.mark.parametrize("missing", ["index", "volatility_index"])
def test_a_reference_without_bars_is_refused_by_name(missing: str):
    frame = random_bars(1, 300)
    with pytest.raises(InputError, match=f"{missing.upper()}=Q: there are no bars of it; give one of A"):
        build(feature_set_named("s50", **{missing: "Q"}), frame, {"A": frame})


def test_an_instrument_may_be_its_own_index(sp500: pd.DataFrame):
    matrix = build(feature_set_named("s100", index="^GSPC"), sp500, {"^GSPC": sp500})
    values = pd.DataFrame(matrix.values, columns=matrix.columns)[matrix.first_row :]
    constant = {"index_level_60": 0.0, "index_beta_60": 1.0, "index_correlation_60": 1.0, "relative_strength_20": 0.0}
    for column, value in constant.items():
        # To the bit: rounding noise would be blown up to unit scale by the standardiser.
        assert values[column].unique().tolist() == [value]
    np.testing.assert_array_equal(values["index_return_1"], values["close"])


def test_only_used_references_are_required():
    frame = random_bars(1, 300)
    assert build(feature_set_named("s50"), frame).spec.index == ""
    assert build(feature_set_named("s50", index="I"), frame, {"I": frame}).spec.index == "I"


def test_dividends_of_an_index_fund_are_not_losses_of_the_index():
    """The fund beside itself has a beta of one, also on the days on which it pays."""
    bars = random_bars(3, 600).assign(dividends=0.0)
    bars.loc[bars.index[100::60], "dividends"] = 2.0
    matrix = build(feature_set_named("s50", index="FUND"), adjusted(bars), {"FUND": bars})
    beta = matrix.values[matrix.first_row :, matrix.columns.index("index_beta_60")]
    np.testing.assert_allclose(beta, 1.0, atol=1e-9)
