"""What to beware of in a fit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from analysis.laws.forms import Array, Law
from analysis.laws.observations import Observations

MEANINGS = {
    "on_bound": "a parameter ended on its bound: the data do not determine it, do not read it",
    "starts_disagree": "several minima: the parameters depend on where the search began",
    "data_rise_law_cannot": "the loss rises with N in these data, and this law cannot rise",
    "interpolation_only": "this law describes the fitted range and may not be used beyond it",
    "nearly_interpolates": "hardly more points than parameters: residuals are too small to say how good the fit is",
}
RISK = 0.01
"""Probability of the flag on data that fall or are flat."""
FEW_REPLICATES = 2
LEAST_NOISE = 1e-12
NORMAL = 1.4826
"""Median absolute deviation to standard deviation, under a normal distribution."""
EFFICIENCY = 0.37
"""Of the median absolute deviation against the standard deviation (Rousseeuw & Croux 1993)."""


def fit_flags(
    law: Law, theta: Array, box: tuple[Array, Array], table: Observations, residuals: Array, *, agree: bool
) -> tuple[str, ...]:
    """The flags of one fit; those of a parameter begin with its name."""
    names = (*law.coefficients, *(shape.name for shape in law.shapes))
    found = [f"{name}_on_bound" for name, value, low, high in zip(names, theta, *box) if value in (low, high)]
    if not agree:
        found.append("starts_disagree")
    if not law.can_rise and loss_rises_with_n(table, residuals):
        found.append("data_rise_law_cannot")
    if not law.extrapolates:
        found.append("interpolation_only")
    if law.shapes and len(residuals) <= law.n_parameters + 2:
        found.append("nearly_interpolates")
    return tuple(found)


def loss_rises_with_n(table: Observations, residuals: Array) -> bool:
    """Whether, all else equal, some larger N has a loss that is higher by more than noise.

    Rows with the same D and U are compared: every pair of sizes by a t-test, at a risk that is divided by the number of
    pairs (Bonferroni), and all sizes together by the slope of the log of the loss.
    """
    others = [column for column in (table.d, table.u) if column is not None]
    cells, cell = np.unique(np.stack([*others, table.n], axis=1), axis=0, return_inverse=True)
    cell = cell.ravel()
    size = np.bincount(cell)
    mean = np.bincount(cell, np.log(table.loss)) / size
    group = np.unique(cells[:, :-1], axis=0, return_inverse=True)[1].ravel()
    # Cells are sorted by N within a group, so the second of a pair is the larger.
    first, second = np.triu_indices(len(size), 1)
    same = group[first] == group[second]
    first, second = first[same], second[same]
    if not len(first):
        return False
    spread, freedom = _noise(np.log(table.loss) - mean[cell], size[cell], residuals)
    t = (mean[second] - mean[first]) / (spread * np.sqrt(1 / size[first] + 1 / size[second]))
    return bool(t.max() > stdtrit(freedom, 1 - RISK / len(first))) or _trend(np.log(cells[:, -1]), mean, group)


def _noise(within: Array, size: NDArray[np.int64], residuals: Array) -> tuple[float, float]:
    """Spread of one row and its degrees of freedom: of repeated cells, else of the fit's residuals.

    By the median absolute deviation, which a few cells that differ in more than the seed do not move; it is worth 37% of
    the observations.
    """
    repeated = within[size > 1]
    freedom = len(repeated) - float((1 / size[size > 1]).sum())
    if EFFICIENCY * freedom < FEW_REPLICATES:
        return max(NORMAL * float(np.median(np.abs(residuals))), LEAST_NOISE), max(1.0, EFFICIENCY * len(residuals))
    spread = NORMAL * float(np.median(np.abs(repeated))) * np.sqrt(len(repeated) / freedom)
    return max(spread, LEAST_NOISE), EFFICIENCY * freedom


def _trend(log_n: Array, mean: Array, group: NDArray[np.int64]) -> bool:
    """One-sided t-test of the slope within groups."""
    n = log_n - (np.bincount(group, log_n) / np.bincount(group))[group]
    y = mean - (np.bincount(group, mean) / np.bincount(group))[group]
    freedom = len(n) - len(np.unique(group)) - 1
    spread = (n**2).sum()
    if freedom < 1 or spread == 0:
        return False
    slope = (n * y).sum() / spread
    error = np.sqrt(((y - slope * n) ** 2).sum() / freedom / spread)
    return bool(stdtr(freedom, -slope / max(error, LEAST_NOISE)) < RISK)
