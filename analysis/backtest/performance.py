"""Performance of an account: return, risk, and the Sharpe ratio with its uncertainty.

All functions take one return per day. Sharpe ratios are per day unless they are called annual.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kurtosis, norm, skew

from analysis.backtest.trades import YEAR, EquityCurve

Array = NDArray[np.float64]

RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Measures of one account; a Sharpe ratio is NaN if nothing moved."""

    total: float
    """Return over all days."""
    annual: float
    """Compound return of a year."""
    volatility: float
    """Standard deviation of the daily returns, annual."""
    sharpe: float
    """Annual, over cash that earns nothing."""
    low: float
    high: float
    """Bounds of the 95% interval of `sharpe`: stationary bootstrap (Politis & Romano 1994)."""
    probabilistic_sharpe: float
    """Probability that the true Sharpe ratio is above 0."""
    drawdown: float
    """Largest loss from an earlier high, negative."""
    exposure: float
    """Mean share of the capital in a position."""


def performance(account: EquityCurve, horizon: int) -> Performance:
    """Return the measures of an account whose trades last `horizon` days."""
    returns, year = account.returns, account.year
    annual = sharpe(returns) * np.sqrt(year)
    low, high = sharpe_interval(returns, horizon, year) if np.isfinite(annual) else (np.nan, np.nan)
    return Performance(
        total=float(account.equity[-1] - 1),
        annual=float(account.equity[-1] ** (year / len(returns)) - 1),
        volatility=float(returns.std(ddof=1) * np.sqrt(year)),
        sharpe=float(annual),
        low=low,
        high=high,
        probabilistic_sharpe=probabilistic_sharpe(returns),
        drawdown=max_drawdown(account.equity),
        exposure=account.exposure,
    )


def sharpe(returns: Array) -> float:
    """Return the mean over the standard deviation of the daily returns; NaN if nothing moved."""
    spread = returns.std(ddof=1)
    return float(returns.mean() / spread) if spread > 0 else float("nan")


def max_drawdown(equity: Array) -> float:
    """Return the largest loss from an earlier high, as a negative share of it."""
    return float((equity / np.maximum.accumulate(equity) - 1).min())


def probabilistic_sharpe(returns: Array, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio is above the benchmark; NaN if nothing moved.

    Bailey & Lopez de Prado 2012, "The Sharpe ratio efficient frontier".
    """
    ratio = sharpe(returns)
    if not np.isfinite(ratio):
        return float("nan")
    skewness, kurt = float(skew(returns)), float(kurtosis(returns, fisher=False))
    return probability_above(ratio, benchmark, days=len(returns), skewness=skewness, kurt=kurt)


def probability_above(ratio: float, benchmark: float, *, days: int, skewness: float, kurt: float) -> float:
    """Return the same probability from moments; `kurt` is 3 for normal returns."""
    variance = 1 - skewness * ratio + (kurt - 1) / 4 * ratio**2
    return float(norm.cdf((ratio - benchmark) * np.sqrt(days - 1) / np.sqrt(variance)))


def expected_best_sharpe(trials: int, spread: float) -> float:
    """Return the expected Sharpe ratio of the best of `trials` without skill.

    `spread` is the standard deviation of the trials' Sharpe ratios. Bailey & Lopez de Prado 2014, "The deflated Sharpe
    ratio".
    """
    if trials < 2:
        return 0.0
    upper, further = norm.ppf([1 - 1 / trials, 1 - 1 / (trials * np.e)])
    return float(spread * ((1 - np.euler_gamma) * upper + np.euler_gamma * further))


def sharpe_interval(returns: Array, horizon: int, year: float = YEAR) -> tuple[float, float]:
    """Return the 95% interval of the annual Sharpe ratio.

    The block length follows the dependence of returns and of their squares (Politis & White 2004); it is at least the horizon.
    """
    from arch.bootstrap import StationaryBootstrap, optimal_block_length

    lengths = optimal_block_length(np.column_stack([returns, returns**2]))["stationary"].to_numpy(np.float64)
    # Few trades may leave no dependence to estimate.
    length = max(horizon, *np.ceil(np.nan_to_num(lengths, nan=1.0)).astype(int))
    blocks = StationaryBootstrap(length, returns, seed=SEED)
    ratios = np.array([sharpe(np.asarray(data[0])) for data, _ in blocks.bootstrap(RESAMPLES)]) * np.sqrt(year)
    low, high = np.nanquantile(ratios, [0.025, 0.975])
    return float(low), float(high)
