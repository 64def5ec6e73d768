"""Tuning curve: the expected loss of the best of n random trials. Numbers only.

Only random trials count. A sampler that learns makes its trials depend on each other, so the expectation over n
independent draws is not defined for them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 0
POINTS = 40
"""Limit on the points of a curve."""


def expected_best(losses: NDArray[np.float64], n: int) -> float:
    """Return the mean of the smallest loss over all subsets of n, an unbiased estimate of E[min of n draws].

    The U-statistic over order statistics x(1) <= ... <= x(N), sum_i x(i) C(N-i, n-1) / C(N, n) (Hoeffding 1948). The
    V-statistic of Dodge et al. 2019 (equation 7) draws the n with replacement from the N and is biased upwards for a
    loss (Tang et al. 2020). For n = N it is the smallest loss.
    """
    return float(np.sort(losses) @ _weights(len(losses), n))


def search_error(losses: NDArray[np.float64], n: int) -> float:
    """Return the bootstrap standard error of `expected_best` over trials; NaN below two trials.

    It is too small if n is close to the number of trials, since no bootstrap sample goes below the smallest loss. At n = N
    it is 15% too small for losses with a lower bound and 40% for normal ones (tests/analysis/results/test_tuning_curve.py).
    """
    return float(_resampled(losses, np.array([n])).std(axis=0, ddof=1)[0]) if len(losses) > 1 else float("nan")


def tuning_curve(losses: NDArray[np.float64]) -> pd.DataFrame:
    """Return columns n, expected_best, standard_error for up to 40 values of n from 1 to the number of trials."""
    counts = np.unique(np.geomspace(1, len(losses), min(POINTS, len(losses))).round().astype(int))
    errors = _resampled(losses, counts).std(axis=0, ddof=1) if len(losses) > 1 else np.full(len(counts), np.nan)
    means = [expected_best(losses, int(n)) for n in counts]
    return pd.DataFrame({"n": counts, "expected_best": means, "standard_error": errors})


def _weights(trials: int, n: int) -> NDArray[np.float64]:
    """Return the share of the subsets of n whose smallest member is the i-th smallest of all, (trials,)."""
    if not 1 <= n <= trials:
        raise ValueError(f"n={n}: there are {trials} trials; give a number from 1 to that.")
    rank = np.arange(1, trials)
    # C(N-i, n-1) / C(N, n) by its ratio from one i to the next; the binomials themselves would overflow.
    ratios = np.maximum(trials - rank - n + 1, 0) / (trials - rank)
    return np.asarray(n / trials * np.concatenate([[1.0], np.cumprod(ratios)]), dtype=np.float64)


def _resampled(losses: NDArray[np.float64], counts: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return `expected_best` of every resample for every n in `counts`, (RESAMPLES, len(counts))."""
    trials = len(losses)
    # Ranks are sorted instead of losses, because a stable sort of short integers is a radix sort.
    kind = np.uint16 if trials < 1 << 16 else np.uint32
    drawn = np.random.default_rng(SEED).integers(trials, size=(RESAMPLES, trials), dtype=kind)
    ordered = np.sort(losses)[np.sort(drawn, axis=1, kind="stable")]
    return np.asarray(ordered @ np.column_stack([_weights(trials, int(n)) for n in counts]), dtype=np.float64)
