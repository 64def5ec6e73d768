"""Predictions of fitted laws for new rows, with intervals over parameters, seeds and forms."""

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
"""Largest ratio of an admissible form's objective per degree of freedom to the best form's."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted losses of new rows, each (I,)."""

    loss: Array
    """Prediction of the first law."""
    low: Array
    high: Array
    """95% interval of a new measurement, from parameters, seeds and the spread between admissible forms."""
    parameters_low: Array
    parameters_high: Array
    """95% interval from the first law's parameters alone, for comparison; its coverage is far too low."""


def admissible(fits: Sequence[Fit], table: Observations) -> tuple[Fit, ...]:
    """Return the fits that can extrapolate, can be bootstrapped and describe the table about as well as the best."""
    clusters = int(table.cluster.max()) + 1
    candidates = [fit for fit in fits if fit.law.extrapolates and clusters > fit.law.n_parameters < len(table)]
    misfit = [fit.objective / (fit.n_points - fit.law.n_parameters) for fit in candidates]
    return tuple(fit for fit, value in zip(candidates, misfit, strict=True) if value <= ADMISSIBLE * min(misfit))


def predict(
    fits: Sequence[Fit], table: Observations, new: Observations, *, resamples: int = RESAMPLES, seed: int = 0
) -> Prediction:
    """Predict the rows of `new` by the first fit, with an interval over all admissible fits to `table`.

    `InputError` if no fit is admissible.
    """
    forms = admissible(fits, table)
    fix = "none can extrapolate from this table; give more rows or a smaller law."
    require(bool(forms), "LAW", ", ".join(fit.law.name for fit in fits), fix)
    first = fits[0] if fits[0] in forms else forms[0]
    rng = np.random.default_rng(seed)
    centre = predictions(first, first.theta[None], new)[0]
    levels = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    draws_BI = []
    parameters_2I = np.zeros((2, len(new)))
    for fit in forms:
        resampled = bootstrap(fit, table, resamples=resamples, seed=seed)
        middle = predictions(fit, fit.theta[None], new)
        deviation_BI = predictions(fit, resampled.theta, new) - middle
        if fit is first:
            parameters_2I = np.quantile(middle + deviation_BI, levels, axis=0)
        freedom = resampled.n_clusters - fit.law.n_parameters
        spread = np.sqrt((fit.residuals**2).sum() / max(1, fit.n_points - fit.law.n_parameters))
        noise = stdtrit(freedom, rng.uniform(size=deviation_BI.shape)) * spread
        draws_BI.append(middle + deviation_BI * resampled.inflation + noise)
    low, high = np.quantile(np.concatenate(draws_BI), levels, axis=0)
    return Prediction(
        loss=np.exp(centre),
        low=np.exp(np.minimum(low, centre)),
        high=np.exp(np.maximum(high, centre)),
        parameters_low=np.exp(parameters_2I[0]),
        parameters_high=np.exp(parameters_2I[1]),
    )
