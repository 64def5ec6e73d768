"""Warnings about a fit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from analysis.laws.forms import Array, Law
from analysis.laws.observations import Observations

MEANINGS = {
    "on_bound": "a parameter ended on its bound: the data do not determine it, do not interpret it",
    "starts_disagree": "several minima: the parameters depend on the starting point of the search",
    "data_rise_law_cannot": "the loss rises with N in these data, and this law cannot rise",
    "interpolation_only": "this law describes the fitted range and may not be used beyond it",
    "nearly_interpolates": "hardly more points than parameters: small residuals are no evidence of a good fit",
}
RISK = 0.01
"""Probability of flagging a rise on data that fall or are flat."""
FEW_REPLICATES = 2
LEAST_NOISE = 1e-12
NORMAL = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""
EFFICIENCY = 0.37
"""Efficiency of the median absolute deviation relative to the standard deviation (Rousseeuw & Croux 1993)."""


def fit_flags(
    law: Law, theta: Array, box: tuple[Array, Array], table: Observations, residuals: Array, *, agree: bool
) -> tuple[str, ...]:
    """Return the flags of one fit; a flag about a parameter begins with the parameter's name."""
    names = (*law.coefficients, *(shape.name for shape in law.shapes))
    flags = [f"{name}_on_bound" for name, value, low, high in zip(names, theta, *box) if value in (low, high)]
    if not agree:
        flags.append("starts_disagree")
    if not law.can_rise and loss_rises_with_n(table, residuals):
        flags.append("data_rise_law_cannot")
    if not law.extrapolates:
        flags.append("interpolation_only")
    if law.shapes and len(residuals) <= law.n_parameters + 2:
        flags.append("nearly_interpolates")
    return tuple(flags)


def loss_rises_with_n(table: Observations, residuals: Array) -> bool:
    """Return whether some larger N has a significantly higher loss at equal D and U.

    Rows with the same D and U are compared. Every pair of sizes gets a t-test at a risk divided by the number of pairs
    (Bonferroni); all sizes together are tested by the slope of the log of the loss.
    """
    tokens = [column for column in (table.d, table.u) if column is not None]
    cells, cell = np.unique(np.stack([*tokens, table.n], axis=1), axis=0, return_inverse=True)
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
    """Return the standard deviation of one row and its degrees of freedom, from repeated cells or else from the residuals.

    The estimate is the median absolute deviation, which resists a few cells that differ in more than the seed. Its
    efficiency is 37%.
    """
    repeated = within[size > 1]
    freedom = len(repeated) - float((1 / size[size > 1]).sum())
    if EFFICIENCY * freedom < FEW_REPLICATES:
        return max(NORMAL * float(np.median(np.abs(residuals))), LEAST_NOISE), max(1.0, EFFICIENCY * len(residuals))
    spread = NORMAL * float(np.median(np.abs(repeated))) * np.sqrt(len(repeated) / freedom)
    return max(spread, LEAST_NOISE), EFFICIENCY * freedom


def _trend(log_n: Array, mean: Array, group: NDArray[np.int64]) -> bool:
    """Return whether the slope within groups is above zero by a one-sided t-test."""
    n = log_n - (np.bincount(group, log_n) / np.bincount(group))[group]
    y = mean - (np.bincount(group, mean) / np.bincount(group))[group]
    freedom = len(n) - len(np.unique(group)) - 1
    spread = (n**2).sum()
    if freedom < 1 or spread == 0:
        return False
    slope = (n * y).sum() / spread
    error = np.sqrt(((y - slope * n) ** 2).sum() / freedom / spread)
    return bool(stdtr(freedom, -slope / max(error, LEAST_NOISE)) < RISK)
