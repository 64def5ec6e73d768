"""Statistics of the last `length` sessions, each summed anew over its own window.

A running sum that adds the newest and drops the oldest value keeps the rounding errors of everything it ever
saw: after a flat or untraded stretch it is not zero, and a quotient of two such rests can be anything. Here a
window's result depends on the window alone. One addition per lag over all days costs half a millisecond at 60
sessions and 10,000 days. A window that holds a NaN gives NaN.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]


def lagged(values: Series, sessions: int) -> Series:
    """The value `sessions` earlier."""
    earlier = np.full(len(values), np.nan)
    earlier[sessions:] = values[: max(len(values) - sessions, 0)]
    return earlier


def change(values: Series, sessions: int) -> Series:
    """Difference to the value `sessions` earlier."""
    return values - lagged(values, sessions)


def ratio(numerator: Series, denominator: Series, *, floor: Series | float, otherwise: float) -> Series:
    """Quotient where the denominator exceeds `floor`, else `otherwise`; NaN stays NaN."""
    small = denominator <= floor
    unknown = np.isnan(numerator) | np.isnan(denominator)
    quotient = numerator / np.where(small, 1.0, denominator)
    return np.where(unknown, np.nan, np.where(small, otherwise, quotient))


def rolling_sum(values: Series, length: int) -> Series:
    """Sum of the window."""
    total = np.zeros(max(len(values) - length + 1, 0))
    for part in _lags(values, length):
        total += part
    return _at_window_ends(total, len(values))


def rolling_mean(values: Series, length: int) -> Series:
    """Mean of the window."""
    return rolling_sum(values, length) / length


def rolling_covariance(one: Series, other: Series, length: int) -> Series:
    """Covariance inside the window, divided by its length."""
    mean, other_mean = (rolling_mean(values, length)[length - 1 :] for values in (one, other))
    total = np.zeros(max(len(one) - length + 1, 0))
    for part, other_part in zip(_lags(one, length), _lags(other, length), strict=True):
        total += (part - mean) * (other_part - other_mean)
    return _at_window_ends(total / length, len(one))


def rolling_variance(values: Series, length: int) -> Series:
    """Variance inside the window, divided by its length."""
    return rolling_covariance(values, values, length)


def rolling_correlation(one: Series, other: Series, length: int, *, floor: float) -> Series:
    """Correlation inside the window; 0 where a standard deviation is not above `floor`."""
    covariance = rolling_covariance(one, other, length)
    variance, other_variance = rolling_variance(one, length), rolling_variance(other, length)
    deviations = np.sqrt(variance * other_variance)
    moving = np.minimum(variance, other_variance) > floor**2
    return ratio(covariance, np.where(moving | np.isnan(deviations), deviations, 0.0), floor=0.0, otherwise=0.0)


def rolling_moment(values: Series, length: int, order: int) -> Series:
    """Central moment of an order inside the window."""
    mean = rolling_mean(values, length)[length - 1 :]
    total = np.zeros(max(len(values) - length + 1, 0))
    for part in _lags(values, length):
        power = deviation = part - mean
        for _ in range(order - 1):
            power = power * deviation
        total += power
    return _at_window_ends(total / length, len(values))


def share_not_above(values: Series, length: int) -> Series:
    """Share of the window that is not above its newest value."""
    newest = values[length - 1 :]
    count = np.zeros(max(len(values) - length + 1, 0))
    for part in _lags(values, length):
        # A NaN must reach the result, which a comparison alone would hide.
        count += (part <= newest) + 0.0 * part
    return _at_window_ends(count / length, len(values))


def sessions_since_highest(values: Series, length: int) -> Series:
    """Sessions since the highest value of the window, the newest of equal ones; 0 is today."""
    rows = max(len(values) - length + 1, 0)
    best, since = np.full(rows, -np.inf), np.zeros(rows)
    for position, part in enumerate(_lags(values, length)):
        reached = part >= best
        best = np.where(reached, part, best)
        since = np.where(reached, length - 1 - position, since)
    return _at_window_ends(since, len(values))


def _lags(values: Series, length: int) -> Iterator[Series]:
    """For every place in a window, oldest first, the values of all windows at that place."""
    rows = max(len(values) - length + 1, 0)
    for place in range(length):
        yield values[place : place + rows]


def _at_window_ends(results: Series, days: int) -> Series:
    placed = np.full(days, np.nan)
    placed[days - len(results) :] = results
    return placed
