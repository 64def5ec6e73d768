"""Loss against depth / width at one budget, with the best ratio and its uncertainty. Numbers only.

Only random trials enter. The sampler tries good shapes with good learning rates, which makes these shapes look better
than they are; random draws average the other settings out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from research.tracking import schema

FEWEST_TRIALS = 10
FEWEST_RATIOS = 4
RESAMPLES = 1000
PERMUTATIONS = 2000
POINTS = 41
LEVEL = 0.05
SEED = 0


@dataclass(frozen=True, kw_only=True)
class ShapeCurve:
    """A quadratic in log2(depth / width), with its bootstrap over trials."""

    budget: str
    horizon: int
    trials: int
    """Number of random trials in the fit."""
    p_value: float
    """P-value of the hypothesis that the ratio does not matter, by permutation of the losses."""
    curve: pd.DataFrame
    """Columns ratio, loss, low, high (95%, pointwise) at 41 ratios over the tried range."""
    best: float
    """Ratio with the lowest loss of the curve, within the tried range."""
    best_low: float
    best_high: float
    """Bounds of the 95% interval of the best ratio."""
    best_error: float
    """Standard error of log2 of the best ratio."""

    @property
    def is_at_edge(self) -> bool:
        """Whether the best ratio is an end of the tried range, so that a better one may lie beyond."""
        return bool(self.best in (self.curve["ratio"].iloc[0], self.curve["ratio"].iloc[-1]))


def shape_curve(trials: pd.DataFrame, budget: str, horizon: int, ceiling: float) -> ShapeCurve | None:
    """Fit the random trials of one budget; None below ten trials or four different ratios.

    Losses above `ceiling` (the base-rate loss) are clipped to it: the loss of a failed training is no property of its
    shape.
    """
    random = trials[trials[schema.PROPOSED_BY] == schema.RANDOM]
    ratio = np.log2((random["n_layers"] / random["d_model"]).to_numpy(np.float64))
    loss = random["val_loss"].clip(upper=ceiling).to_numpy(np.float64)
    if len(random) < FEWEST_TRIALS or len(np.unique(ratio)) < FEWEST_RATIOS:
        return None
    ratios = np.linspace(ratio.min(), ratio.max(), POINTS)
    scaled = [(values - ratio.mean()) / ratio.std() for values in (ratio, ratios)]
    design, grid = (np.column_stack([np.ones_like(values), values, values**2]) for values in scaled)
    fitted = grid @ np.linalg.lstsq(design, loss, rcond=None)[0]
    curves = _resampled_fits(design, loss) @ grid.T
    low, high = np.quantile(curves, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    lowest = ratios[curves.argmin(axis=1)]
    best_low, best_high = np.quantile(lowest, [LEVEL / 2, 1 - LEVEL / 2])
    return ShapeCurve(
        budget=budget,
        horizon=horizon,
        trials=len(random),
        p_value=_permutation_p(design, loss),
        curve=pd.DataFrame({"ratio": 2**ratios, "loss": fitted, "low": low, "high": high}),
        best=float(2 ** ratios[fitted.argmin()]),
        best_low=float(2**best_low),
        best_high=float(2**best_high),
        best_error=float(lowest.std(ddof=1)),
    )


def ratio_label(ratio: float) -> str:
    """Return a depth / width as a number or a fraction, for example `2` or `1/8`."""
    return f"{ratio:.3g}" if ratio >= 1 else f"1/{1 / ratio:.3g}"


def heterogeneity(curves: Sequence[ShapeCurve]) -> float:
    """Return the p-value that all curves have the same best ratio (Cochran 1954, Q); NaN below two curves."""
    if len(curves) < 2:
        return float("nan")
    best = np.log2([curve.best for curve in curves])
    weights = 1 / np.square([max(curve.best_error, 1e-9) for curve in curves])
    q = float(weights @ (best - weights @ best / weights.sum()) ** 2)
    return float(stats.chi2.sf(q, len(curves) - 1))


def _resampled_fits(design: NDArray[np.float64], loss: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coefficients of every bootstrap sample of the trials, (RESAMPLES, 3)."""
    trials = len(loss)
    counts = np.random.default_rng(SEED).multinomial(trials, np.full(trials, 1 / trials), size=RESAMPLES).astype(np.float64)
    squares = (counts @ (design[:, :, None] * design[:, None, :]).reshape(trials, 9)).reshape(RESAMPLES, 3, 3)
    # A resample may have too few ratios for a quadratic: the pseudo-inverse then gives the flattest one that fits.
    coefficients = np.linalg.pinv(squares, rcond=1e-10, hermitian=True) @ (counts @ (design * loss[:, None]))[:, :, None]
    return np.asarray(coefficients[:, :, 0], dtype=np.float64)


def _permutation_p(design: NDArray[np.float64], loss: NDArray[np.float64]) -> float:
    """Return the share of permutations of the losses, the given order included, that a quadratic explains as well."""
    basis = np.linalg.qr(design)[0][:, 1:]
    centred = loss - loss.mean()
    shuffled = np.random.default_rng(SEED).permuted(np.tile(centred, (PERMUTATIONS, 1)), axis=1)
    explained = ((shuffled @ basis) ** 2).sum(axis=1)
    observed = ((centred @ basis) ** 2).sum()
    return float((1 + (explained >= observed - 1e-12).sum()) / (1 + PERMUTATIONS))
