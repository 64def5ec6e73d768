"""What the best of n random trials can be expected to reach: a tuning curve without the luck of one search. Numbers only.

Only trials that were drawn at random count: a sampler that learns makes its trials depend on each other, and the
expectation over n independent draws is not defined for them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 0
POINTS = 40
"""Places at which a curve is computed, at most."""


def expected_best(losses: NDArray[np.float64], n: int) -> float:
    """Mean of the smallest of n losses over all subsets of n of them, an unbiased estimate of E[min of n draws].

    The U-statistic over order statistics x(1) <= ... <= x(N), sum_i x(i) C(N-i, n-1) / C(N, n) (Hoeffding 1948). The
    V-statistic of Dodge et al. 2019 (equation 7) draws the n with replacement from the N and is biased upwards for a
    loss (Tang et al. 2020). For n = N both have nothing to average: it is the smallest loss.
    """
    return float(np.sort(losses) @ _weights(len(losses), n))


def search_error(losses: NDArray[np.float64], n: int) -> float:
    """Standard error of `expected_best`: standard deviation over bootstrap samples of the trials; NaN below two trials.

    Too small where n comes near the number of trials, since a bootstrap sample never goes below the smallest loss seen:
    at n = N by 15% for losses with a bound below, by 40% for normal ones (tests/analysis/results/test_tuning_curve.py).
    """
    return float(_resampled(losses, np.array([n])).std(axis=0, ddof=1)[0]) if len(losses) > 1 else float("nan")


def tuning_curve(losses: NDArray[np.float64]) -> pd.DataFrame:
    """Columns n, expected_best, standard_error, for n from 1 to the number of trials, at most 40 of them."""
    places = np.unique(np.geomspace(1, len(losses), min(POINTS, len(losses))).round().astype(int))
    errors = _resampled(losses, places).std(axis=0, ddof=1) if len(losses) > 1 else np.full(len(places), np.nan)
    means = [expected_best(losses, int(n)) for n in places]
    return pd.DataFrame({"n": places, "expected_best": means, "standard_error": errors})


def _weights(trials: int, n: int) -> NDArray[np.float64]:
    """Share of the subsets of n whose smallest member is the i-th smallest of all, i from 1 to `trials`."""
    if not 1 <= n <= trials:
        raise ValueError(f"n={n}: there are {trials} trials; give a number from 1 to that.")
    later = np.arange(1, trials)
    # C(N-i, n-1) / C(N, n) by its ratio from one i to the next; the binomials themselves would overflow.
    ratios = np.maximum(trials - later - n + 1, 0) / (trials - later)
    return np.asarray(n / trials * np.concatenate([[1.0], np.cumprod(ratios)]), dtype=np.float64)


def _resampled(losses: NDArray[np.float64], places: NDArray[np.int_]) -> NDArray[np.float64]:
    """`expected_best` of every resample at every place, (RESAMPLES, places)."""
    trials = len(losses)
    # Sorted ranks instead of sorted losses: a stable sort of short integers is by radix.
    kind = np.uint16 if trials < 1 << 16 else np.uint32
    drawn = np.random.default_rng(SEED).integers(trials, size=(RESAMPLES, trials), dtype=kind)
    ordered = np.sort(losses)[np.sort(drawn, axis=1, kind="stable")]
    return np.asarray(ordered @ np.column_stack([_weights(trials, int(n)) for n in places]), dtype=np.float64)
