"""The loss at a size that has not been trained yet, with an interval, written down before the result is known.

Three or four budgets cannot choose a law, and the parameters of a chosen one vary far less than the laws do. So every form
keeps a share: constant, power and power with a floor, each over a grid of its shape and of the noise, weighted by how
well it predicts the points (Bayesian model averaging, Hoeting et al. 1999). The interval is that of the mixture: it holds
seed and search noise, the doubt about the parameters and the doubt about the form.
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
"""Of its Student's t: tails that keep slopes ten times as large."""
LEAST_NOISE, MOST_NOISE = 1e-3, 0.1
"""Range of the relative noise of a point beyond its given standard error."""
NOTHING = 1e-7
"""Share of the mixture below which a curve does not move an interval."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A prediction that can be signed: made from these points, for this size."""

    at: float
    """The size N that is predicted."""
    loss: float
    """Median."""
    low: float
    high: float
    level: float
    """Probability that the interval holds the loss measured at `at`, as noisy as the points are."""
    weights: dict[str, float]
    """Share of each form in the mixture."""
    noise: float
    """Expected relative noise of one point."""
    n: tuple[float, ...]
    """Sizes that it was made from, rising."""
    losses: tuple[float, ...]
    errors: tuple[float, ...]
    """Standard errors of the losses, in the same units; 0 where none was given."""

    def to_json(self) -> str:
        """Canonical JSON: the same forecast always gives the same bytes."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: str) -> Forecast:
        """Read what `to_json` wrote; `InputError` if it is something else."""
        try:
            found = json.loads(text)
            if found.pop("spec") != cls.__name__:
                raise KeyError("spec")
            given: dict[str, Any] = {name: float(found.pop(name)) for name in NUMBERS}
            given |= {name: tuple(map(float, found.pop(name))) for name in COLUMNS}
            given["weights"] = {name: float(share) for name, share in found.pop("weights").items()}
            if found:
                raise KeyError(*found)
            return cls(**given)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise InputError(f"forecast={text[:40]!r}: not a forecast ({problem!r}); give what to_json wrote.") from None


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a forecast did."""

    signed_error: float
    """Observed minus predicted loss, over the predicted: above zero where the forecast hoped for too much."""
    inside: bool
    interval_score: float
    """Width plus 2 / (1 - level) times the distance outside, in units of the loss (Gneiting & Raftery 2007, eq. 43)."""


@dataclass(frozen=True, kw_only=True)
class _Curves:
    """A form at every point of its grid: log loss up to a constant, at the C curves' known sizes and at the new one."""

    name: str
    known: Array
    """(C, I)."""
    new: Array
    """(C,)."""
    prior: Array
    """(C,), sums to 1."""


def forecast(n: ArrayLike, loss: ArrayLike, at: float, *, error: ArrayLike | None = None, level: float = LEVEL) -> Forecast:
    """Predict the loss at size `at` from the best losses of smaller budgets.

    `error` holds a standard error per loss, in its units: of seeds, of the search, or of both. Rows of one size are
    averaged, and without `error` their spread is their error. `InputError` below 3 sizes or where `at` is not beyond them.
    """
    sizes, losses, errors = _points(n, loss, error)
    require(len(sizes) >= FEWEST, "n", f"{len(sizes)} sizes", f"too few to forecast from; give at least {FEWEST}.")
    require(np.isfinite(at) and at > sizes[-1], "at", at, f"not beyond the largest size {sizes[-1]:g}; give a larger one.")
    require(0 < level < 1, "level", level, "give a probability, for example 0.95.")
    known, target = np.log(sizes), float(np.log(at))
    curves = [_constant(known), _power(known, target), _floor(known, target)]
    parts = [_posterior(one, np.log(losses), errors / losses) for one in curves]
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
        weights={one.name: float(part[0].sum() / total) for one, part in zip(curves, parts, strict=True)},
        noise=float(expected),
        n=tuple(map(float, sizes)),
        losses=tuple(map(float, losses)),
        errors=tuple(map(float, errors)),
    )


def score(made: Forecast, observed: float) -> Score:
    """Hold a forecast against the loss that was measured afterwards."""
    require(np.isfinite(observed) and observed > 0, "observed", observed, "give the measured loss, above zero.")
    outside = max(made.low - observed, observed - made.high, 0.0)
    return Score(
        signed_error=observed / made.loss - 1,
        inside=made.low <= observed <= made.high,
        interval_score=made.high - made.low + 2 / (1 - made.level) * outside,
    )


def _points(n: ArrayLike, loss: ArrayLike, error: ArrayLike | None) -> tuple[Array, Array, Array]:
    """Sizes, mean losses and their standard errors."""
    table = observations(n=n, loss=loss)
    sizes, place = np.unique(table.n, return_inverse=True)
    rows = np.bincount(place)
    losses = np.bincount(place, table.loss) / rows
    if error is not None:
        given = np.asarray(error, dtype=np.float64)
        fix = f"give one standard error for each of the {len(table)} losses, none below zero."
        require(given.shape == table.n.shape and bool((np.isfinite(given) & (given >= 0)).all()), "error", error, fix)
        return sizes, losses, np.sqrt(np.bincount(place, given**2)) / rows
    freedom = len(table) - len(sizes)
    if not freedom:
        return sizes, losses, np.zeros(len(sizes))
    relative = np.sqrt(((table.loss / losses[place] - 1) ** 2).sum() / freedom)
    return sizes, losses, relative * losses / np.sqrt(rows)


def _constant(known: Array) -> _Curves:
    return _Curves(name="constant", known=np.zeros((1, len(known))), new=np.zeros(1), prior=np.ones(1))


def _power(known: Array, target: float) -> _Curves:
    # Slopes per tenfold size; even in the quantiles of the prior.
    slope = SLOPE_SCALE * np.sinh(np.linspace(-4.4, 4.4, 161)) / 4
    prior = (1 + (slope / SLOPE_SCALE) ** 2 / SLOPE_FREEDOM) ** (-(SLOPE_FREEDOM + 1) / 2) * np.gradient(slope)
    alpha = slope / np.log(10)
    last = known[-1]
    return _Curves(name="power", known=alpha[:, None] * (known - last), new=alpha * (target - last), prior=prior / prior.sum())


def _floor(known: Array, target: float) -> _Curves:
    # What the last loss has above the floor, and the exponent: both grids are even in the log.
    excess, alpha = (one.ravel() for one in np.meshgrid(np.geomspace(0.004, 0.98, 36), np.geomspace(0.02, 2.0, 32)))
    # The exponent's prior is even in its log, the excess's halfway between that and even.
    prior = np.sqrt(excess)
    last = known[-1]

    def curve(log_n: Array | float) -> Array:
        return np.asarray(np.log(1 - excess + excess * np.exp(-alpha * (log_n - last))))

    every = np.stack([curve(value) for value in known], axis=1)
    return _Curves(name="power_floor", known=every, new=curve(target), prior=prior / prior.sum())


def _posterior(curves: _Curves, log_loss: Array, errors: Array) -> tuple[Array, Array, Array, Array]:
    """Weight, centre, spread and noise of the new log loss for every curve and noise level, each (C * S,).

    The level of the loss has a flat prior and is integrated out; the extra noise has a log-uniform one.
    """
    extra = np.geomspace(LEAST_NOISE, MOST_NOISE, 16)[:, None]
    precision_SI = 1 / (errors**2 + extra**2)
    level_S = precision_SI.sum(axis=1)
    left_CI = log_loss - curves.known
    mean_CS = left_CI @ precision_SI.T / level_S
    squares_CS = left_CI**2 @ precision_SI.T - mean_CS**2 * level_S
    log_weight = 0.5 * (np.log(precision_SI).sum(axis=1) - np.log(level_S) - squares_CS)
    weight = np.exp(log_weight) * curves.prior[:, None]
    # The new point is as noisy as those before.
    new_S = (1 / precision_SI).mean(axis=1)
    spread = np.broadcast_to(np.sqrt(1 / level_S + new_S), weight.shape)
    noise = np.broadcast_to(np.sqrt(new_S), weight.shape)
    return weight.ravel(), (mean_CS + curves.new[:, None]).ravel(), spread.ravel(), noise.ravel()


def _quantile(probability: float, weight: Array, centre: Array, spread: Array) -> float:
    """Of a mixture of normals, by bisection; what weighs nothing is left out."""
    heavy = weight > NOTHING
    weight, centre, spread = weight[heavy] / weight[heavy].sum(), centre[heavy], spread[heavy]
    low, high = float((centre - 12 * spread).min()), float((centre + 12 * spread).max())
    while high - low > 1e-10:
        middle = (low + high) / 2
        below = float((weight * ndtr((middle - centre) / spread)).sum())
        low, high = (middle, high) if below < probability else (low, middle)
    return (low + high) / 2
