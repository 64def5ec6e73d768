from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.adopt.numbers import UnreadableError, number_or_text, real, whole

COUNTS = st.integers(min_value=-(10**15), max_value=10**15)


@given(COUNTS)
def test_an_integer_is_the_same_plain_with_separators_and_as_a_float(n: int) -> None:
    assert whole(str(n)) == whole(f"{n:,}") == whole(f"{n}.0") == whole(float(n)) == whole(n) == n


@given(st.floats(allow_nan=False))
def test_a_float_comes_back_to_its_last_bit(x: float) -> None:
    assert real(repr(x)) == real(x) == x


@given(COUNTS, st.floats(allow_nan=False, allow_infinity=False))
def test_untyped_text_keeps_integers_and_floats_apart(n: int, x: float) -> None:
    assert (number_or_text(f"{n:,}"), type(number_or_text(str(n)))) == (n, int)
    assert (number_or_text(repr(x)), type(number_or_text(repr(x)))) == (x, float)


@given(st.text(alphabet="0123456789,.", min_size=1, max_size=12))
def test_whatever_is_read_as_grouped_has_groups_of_three(text: str) -> None:
    try:
        value = whole(text)
    except UnreadableError:
        return
    if "," in text:
        assert f"{value:,}" == text.split(".")[0].lstrip("0") or text.startswith("0")


@pytest.mark.parametrize("text", ["1,23", "12,3456", ",123", "1_000", "0x10", "", "12a", "1,234,56", "²", "1e9999"])
def test_what_only_looks_like_a_number_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError):
        whole(text)


@pytest.mark.parametrize("value", ["64.5", 64.5, True, None, [1]])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(UnreadableError):
        whole(value)


def test_logs_write_nan_and_inf_too() -> None:
    assert math.isnan(real("nan"))
    assert real("-inf") == -math.inf
    assert real("1e+02") == 100
