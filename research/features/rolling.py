"""Rolling statistics of the last `length` sessions, each summed over its own window.

All arrays are [days] and NaN before the first full window; a window with a NaN gives NaN. A running sum that adds the
newest value and drops the oldest accumulates rounding errors: after a flat or untraded stretch it is not zero, and a
quotient of two such remainders is arbitrary. Here each result depends only on its window. One addition per lag over all
days costs half a millisecond at 60 sessions and 10,000 days.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]


def lagged(values: Series, sessions: int) -> Series:
    """Return the value `sessions` earlier."""
    earlier = np.full(len(values), np.nan)
    earlier[sessions:] = values[: max(len(values) - sessions, 0)]
    return earlier


def change(values: Series, sessions: int) -> Series:
    """Return the difference from the value `sessions` earlier."""
    return values - lagged(values, sessions)


def ratio(numerator: Series, denominator: Series, *, floor: Series | float, otherwise: float) -> Series:
    """Return the quotient if the denominator exceeds `floor`, else `otherwise`; NaN stays NaN."""
    small = denominator <= floor
    unknown = np.isnan(numerator) | np.isnan(denominator)
    quotient = numerator / np.where(small, 1.0, denominator)
    return np.where(unknown, np.nan, np.where(small, otherwise, quotient))


def rolling_sum(values: Series, length: int) -> Series:
    """Return the sum of each window."""
    total = np.zeros(max(len(values) - length + 1, 0))
    for part in _lags(values, length):
        total += part
    return _at_window_ends(total, len(values))


def rolling_mean(values: Series, length: int) -> Series:
    """Return the mean of each window."""
    return rolling_sum(values, length) / length


def rolling_covariance(first: Series, second: Series, length: int) -> Series:
    """Return the covariance in each window, divided by its length."""
    mean, second_mean = (rolling_mean(values, length)[length - 1 :] for values in (first, second))
    total = np.zeros(max(len(first) - length + 1, 0))
    for part, second_part in zip(_lags(first, length), _lags(second, length), strict=True):
        total += (part - mean) * (second_part - second_mean)
    return _at_window_ends(total / length, len(first))


def rolling_variance(values: Series, length: int) -> Series:
    """Return the variance in each window, divided by its length."""
    return rolling_covariance(values, values, length)


def rolling_correlation(first: Series, second: Series, length: int, *, floor: float) -> Series:
    """Return the correlation in each window; 0 if a standard deviation is at most `floor`."""
    covariance = rolling_covariance(first, second, length)
    variance, second_variance = rolling_variance(first, length), rolling_variance(second, length)
    deviations = np.sqrt(variance * second_variance)
    moving = np.minimum(variance, second_variance) > floor**2
    return ratio(covariance, np.where(moving | np.isnan(deviations), deviations, 0.0), floor=0.0, otherwise=0.0)


def rolling_moment(values: Series, length: int, order: int) -> Series:
    """Return the central moment of the given order in each window."""
    mean = rolling_mean(values, length)[length - 1 :]
    total = np.zeros(max(len(values) - length + 1, 0))
    for part in _lags(values, length):
        power = deviation = part - mean
        for _ in range(order - 1):
            power = power * deviation
        total += power
    return _at_window_ends(total / length, len(values))


def share_not_above(values: Series, length: int) -> Series:
    """Return the share of each window that is not above its newest value."""
    newest = values[length - 1 :]
    count = np.zeros(max(len(values) - length + 1, 0))
    for part in _lags(values, length):
        # A comparison alone would hide a NaN, which must reach the result.
        count += (part <= newest) + 0.0 * part
    return _at_window_ends(count / length, len(values))


def sessions_since_highest(values: Series, length: int) -> Series:
    """Return the sessions since the highest value of each window, the newest of equal ones; 0 is the current session."""
    rows = max(len(values) - length + 1, 0)
    best, since = np.full(rows, -np.inf), np.zeros(rows)
    for position, part in enumerate(_lags(values, length)):
        reached = part >= best
        best = np.where(reached, part, best)
        since = np.where(reached, length - 1 - position, since)
    return _at_window_ends(since, len(values))


def _lags(values: Series, length: int) -> Iterator[Series]:
    """Yield, for every position in a window from the oldest on, the values of all windows at that position."""
    rows = max(len(values) - length + 1, 0)
    for position in range(length):
        yield values[position : position + rows]


def _at_window_ends(results: Series, days: int) -> Series:
    placed = np.full(days, np.nan)
    placed[days - len(results) :] = results
    return placed
