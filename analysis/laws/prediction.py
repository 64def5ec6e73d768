"""What fitted laws say about rows that they have not seen, with all that is unsure about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.laws.fit import Fit
from analysis.laws.forms import Array
from analysis.laws.observations import Observations
from analysis.laws.resampling import bootstrap, predictions
from research.errors import require

RESAMPLES = 400
LEVEL = 0.95
ADMISSIBLE = 4.0
"""A form whose objective per degree of freedom is at most this many times the best one's describes the data too."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Losses of new rows, each (I,)."""

    loss: Array
    """By the first law."""
    low: Array
    high: Array
    """95% interval of a new measurement: parameters, seeds and the spread between admissible forms."""
    parameters_low: Array
    parameters_high: Array
    """The same of the first law's parameters alone, for comparison: it covers far too little."""


def admissible(fits: Sequence[Fit], table: Observations) -> tuple[Fit, ...]:
    """The fits that may extrapolate, vary with the clusters and describe the table about as well as the best."""
    clusters = int(table.cluster.max()) + 1
    able = [fit for fit in fits if fit.law.extrapolates and clusters > fit.law.n_parameters < len(table)]
    misfit = [fit.objective / (fit.n_points - fit.law.n_parameters) for fit in able]
    return tuple(fit for fit, value in zip(able, misfit, strict=True) if value <= ADMISSIBLE * min(misfit))


def predict(
    fits: Sequence[Fit], table: Observations, new: Observations, *, resamples: int = RESAMPLES, seed: int = 0
) -> Prediction:
    """Predict `new` by the first fit, with an interval over all admissible ones; `table` is what they were fitted to."""
    kept = admissible(fits, table)
    require(bool(kept), "LAW", ", ".join(fit.law.name for fit in fits), "none may extrapolate from this table.")
    first = fits[0] if fits[0] in kept else kept[0]
    rng = np.random.default_rng(seed)
    centre = predictions(first, first.theta[None], new)[0]
    levels = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    everything = []
    alone = np.zeros((2, len(new)))
    for fit in kept:
        drawn = bootstrap(fit, table, resamples=resamples, seed=seed)
        middle = predictions(fit, fit.theta[None], new)
        moved = predictions(fit, drawn.theta, new) - middle
        if fit is first:
            alone = np.quantile(middle + moved, levels, axis=0)
        freedom = drawn.n_clusters - fit.law.n_parameters
        spread = np.sqrt((fit.residuals**2).sum() / max(1, fit.n_points - fit.law.n_parameters))
        noise = stdtrit(freedom, rng.uniform(size=moved.shape)) * spread
        everything.append(middle + moved * drawn.inflation + noise)
    low, high = np.quantile(np.concatenate(everything), levels, axis=0)
    return Prediction(
        loss=np.exp(centre),
        low=np.exp(np.minimum(low, centre)),
        high=np.exp(np.maximum(high, centre)),
        parameters_low=np.exp(alone[0]),
        parameters_high=np.exp(alone[1]),
    )
