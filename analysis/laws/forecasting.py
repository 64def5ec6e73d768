"""Forecast, with an interval, of the loss at a size that has not been trained yet.

Three or four budgets cannot select a law, and the parameters of one law vary far less than the laws differ. So all forms
are averaged: constant, power and power with a floor, each over a grid of its shape and of the noise, weighted by their
likelihood (Bayesian model averaging, Hoeting et al. 1999). The interval is that of the mixture. It covers seed and search
noise and the uncertainty of the parameters and of the form.

Shape suffixes: C curves, I points, S noise levels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from analysis.laws.forms import Array
from analysis.laws.observations import observations
from research.errors import InputError, require
from research.fingerprint import canonical_json

NUMBERS = ("at", "loss", "low", "high", "level", "noise")
COLUMNS = ("n", "losses", "errors")
LEVEL = 0.95
FEWEST = 3
SLOPE_SCALE = 0.1
"""Scale of the prior of a slope, in log loss per tenfold size."""
SLOPE_FREEDOM = 2
"""Degrees of freedom of its Student's t prior, whose tails allow slopes ten times as large."""
MIN_NOISE, MAX_NOISE = 1e-3, 0.1
"""Range of the relative noise of a point beyond its given standard error."""
NEGLIGIBLE = 1e-7
"""Share of the mixture below which a curve does not change an interval."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The forecast for one size, with the points that it was made from."""

    at: float
    """Size N of the forecast."""
    loss: float
    """Median of the predicted loss."""
    low: float
    high: float
    level: float
    """Probability that the interval contains the loss measured at `at`, with the noise of the points."""
    weights: dict[str, float]
    """Share of each form in the mixture."""
    noise: float
    """Expected relative noise of one point."""
    n: tuple[float, ...]
    """Sizes of the points, rising."""
    losses: tuple[float, ...]
    errors: tuple[float, ...]
    """Standard errors of the losses, in the same units; 0 if unknown."""

    def to_json(self) -> str:
        """Return canonical JSON: equal forecasts give equal bytes."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: str) -> Forecast:
        """Read the output of `to_json`; raise `InputError` for any other text."""
        try:
            document = json.loads(text)
            if document.pop("spec") != cls.__name__:
                raise KeyError("spec")
            fields: dict[str, Any] = {name: float(document.pop(name)) for name in NUMBERS}
            fields |= {name: tuple(map(float, document.pop(name))) for name in COLUMNS}
            fields["weights"] = {name: float(share) for name, share in document.pop("weights").items()}
            if document:
                raise KeyError(*document)
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"forecast={text[:40]!r}: not a forecast ({error!r}); give the output of to_json.") from None


@dataclass(frozen=True, kw_only=True)
class Score:
    """Errors of a forecast."""

    signed_error: float
    """Observed over predicted loss, minus 1: above zero if the forecast was too optimistic."""
    inside: bool
    """Whether the interval contains the observed loss."""
    interval_score: float
    """Width plus 2 / (1 - level) times the distance outside, in units of the loss (Gneiting & Raftery 2007, eq. 43)."""


@dataclass(frozen=True, kw_only=True)
class _Curves:
    """One form at every point of its grid: log loss up to a constant."""

    name: str
    fitted: Array
    """Log loss at the sizes of the points, (C, I)."""
    new: Array
    """Log loss at the new size, (C,)."""
    prior: Array
    """Prior probabilities, (C,)."""


def forecast(n: ArrayLike, loss: ArrayLike, at: float, *, error: ArrayLike | None = None, level: float = LEVEL) -> Forecast:
    """Forecast the loss at size `at` from the best losses of smaller budgets.

    `error` holds a standard error per loss, in units of the loss, from seeds, the search or both. Rows of one size are
    averaged; without `error` their spread gives it. `InputError` below 3 sizes or if `at` is not beyond them.
    """
    sizes, losses, errors = _points(n, loss, error)
    require(len(sizes) >= FEWEST, "n", f"{len(sizes)} sizes", f"too few to forecast from; give at least {FEWEST}.")
    require(np.isfinite(at) and at > sizes[-1], "at", at, f"not beyond the largest size {sizes[-1]:g}; give a larger one.")
    require(0 < level < 1, "level", level, "give a probability, for example 0.95.")
    log_n, target = np.log(sizes), float(np.log(at))
    constant = _Curves(name="constant", fitted=np.zeros((1, len(log_n))), new=np.zeros(1), prior=np.ones(1))
    forms = [constant, _power(log_n, target), _floor(log_n, target)]
    parts = [_posterior(curves, np.log(losses), errors / losses) for curves in forms]
    weight = np.concatenate([part[0] for part in parts])
    total = weight.sum()
    centre, spread = (np.concatenate([part[index] for part in parts]) for index in (1, 2))
    low, middle, high = (_quantile((1 + side * level) / 2, weight / total, centre, spread) for side in (-1, 0, 1))
    expected = sum(float((part[0] * part[3]).sum()) for part in parts) / total
    return Forecast(
        at=float(at),
        loss=float(np.exp(middle)),
        low=float(np.exp(low)),
        high=float(np.exp(high)),
        level=float(level),
        weights={curves.name: float(part[0].sum() / total) for curves, part in zip(forms, parts, strict=True)},
        noise=float(expected),
        n=tuple(map(float, sizes)),
        losses=tuple(map(float, losses)),
        errors=tuple(map(float, errors)),
    )


def score(prediction: Forecast, observed: float) -> Score:
    """Compare a forecast with the loss that was measured afterwards."""
    require(np.isfinite(observed) and observed > 0, "observed", observed, "give the measured loss, above zero.")
    outside = max(prediction.low - observed, observed - prediction.high, 0.0)
    return Score(
        signed_error=observed / prediction.loss - 1,
        inside=prediction.low <= observed <= prediction.high,
        interval_score=prediction.high - prediction.low + 2 / (1 - prediction.level) * outside,
    )


def _points(n: ArrayLike, loss: ArrayLike, error: ArrayLike | None) -> tuple[Array, Array, Array]:
    """Return the distinct sizes, their mean losses and the standard errors of these."""
    table = observations(n=n, loss=loss)
    sizes, group = np.unique(table.n, return_inverse=True)
    rows = np.bincount(group)
    losses = np.bincount(group, table.loss) / rows
    if error is not None:
        errors = np.asarray(error, dtype=np.float64)
        fix = f"give one standard error for each of the {len(table)} losses, none below zero."
        require(errors.shape == table.n.shape and bool((np.isfinite(errors) & (errors >= 0)).all()), "error", error, fix)
        return sizes, losses, np.sqrt(np.bincount(group, errors**2)) / rows
    freedom = len(table) - len(sizes)
    if not freedom:
        return sizes, losses, np.zeros(len(sizes))
    relative = np.sqrt(((table.loss / losses[group] - 1) ** 2).sum() / freedom)
    return sizes, losses, relative * losses / np.sqrt(rows)


def _power(log_n: Array, target: float) -> _Curves:
    # Slopes per tenfold size, evenly spaced in the quantiles of the prior.
    slope = SLOPE_SCALE * np.sinh(np.linspace(-4.4, 4.4, 161)) / 4
    prior = (1 + (slope / SLOPE_SCALE) ** 2 / SLOPE_FREEDOM) ** (-(SLOPE_FREEDOM + 1) / 2) * np.gradient(slope)
    alpha = slope / np.log(10)
    last = log_n[-1]
    return _Curves(name="power", fitted=alpha[:, None] * (log_n - last), new=alpha * (target - last), prior=prior / prior.sum())


def _floor(log_n: Array, target: float) -> _Curves:
    # Share of the last loss above the floor, and exponent: both grids are even in the log.
    excess, alpha = (grid.ravel() for grid in np.meshgrid(np.geomspace(0.004, 0.98, 36), np.geomspace(0.02, 2.0, 32)))
    # The exponent's prior is even in its log, the excess's halfway between even in the log and even.
    prior = np.sqrt(excess)
    last = log_n[-1]

    def curve(at: Array | float) -> Array:
        return np.asarray(np.log(1 - excess + excess * np.exp(-alpha * (at - last))))

    fitted = np.stack([curve(at) for at in log_n], axis=1)
    return _Curves(name="power_floor", fitted=fitted, new=curve(target), prior=prior / prior.sum())


def _posterior(curves: _Curves, log_loss: Array, errors: Array) -> tuple[Array, Array, Array, Array]:
    """Return weight, centre, spread and noise of the new log loss for every curve and noise level, each (C * S,).

    The level of the loss has a flat prior and is integrated out; the extra noise has a log-uniform prior.
    """
    extra_S1 = np.geomspace(MIN_NOISE, MAX_NOISE, 16)[:, None]
    precision_SI = 1 / (errors**2 + extra_S1**2)
    level_S = precision_SI.sum(axis=1)
    residual_CI = log_loss - curves.fitted
    mean_CS = residual_CI @ precision_SI.T / level_S
    squares_CS = residual_CI**2 @ precision_SI.T - mean_CS**2 * level_S
    log_weight = 0.5 * (np.log(precision_SI).sum(axis=1) - np.log(level_S) - squares_CS)
    weight = np.exp(log_weight) * curves.prior[:, None]
    # The new point has the noise of the earlier ones.
    new_S = (1 / precision_SI).mean(axis=1)
    spread = np.broadcast_to(np.sqrt(1 / level_S + new_S), weight.shape)
    noise = np.broadcast_to(np.sqrt(new_S), weight.shape)
    return weight.ravel(), (mean_CS + curves.new[:, None]).ravel(), spread.ravel(), noise.ravel()


def _quantile(probability: float, weight: Array, centre: Array, spread: Array) -> float:
    """Return a quantile of a mixture of normals by bisection; components of negligible weight are dropped."""
    heavy = weight > NEGLIGIBLE
    weight, centre, spread = weight[heavy] / weight[heavy].sum(), centre[heavy], spread[heavy]
    low, high = float((centre - 12 * spread).min()), float((centre + 12 * spread).max())
    while high - low > 1e-10:
        middle = (low + high) / 2
        below = float((weight * ndtr((middle - centre) / spread)).sum())
        low, high = (middle, high) if below < probability else (low, middle)
    return (low + high) / 2
