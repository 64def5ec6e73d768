"""A synthetic market with a known distribution, so that the lowest loss that any model can reach is known too.

Within day t+1 the log price is a Brownian motion with that day's volatility sigma[t+1] and drift

    mu[t+1] = signal * sigma[t+1-lag] * z[t+1-lag],

where z is a day's standard normal innovation and sigma follows the GJR-GARCH of `research.data.garch`: daily log returns
are an MA(lag) process with mean zero. The drift repeats an old surprise at its old size. Scaled by today's volatility
instead, its mean would be negative, since volatility rises after losses, and a long series would fall to zero. A forecast
needs memory: the returns of the newest lag - 1 days are uncorrelated with the drift. (They are not independent of it:
volatility keeps a faint trace of old signs.)

Exact: open = previous close; close; high given open and close (maximum of the Brownian bridge); low given open and close.
Not exact: high and low are drawn independently of each other given open and close, which makes the mean squared log range
2.7% too large. No label uses both. Volume is log-normal and larger on days with a large move, and carries no other
information.

The columns `sigma_next` and `drift_next` hold the volatility and drift of day t+1, which are known at the close of t;
`research.task.bayes_loss` turns it into label probabilities. Features never read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.data.garch import SP500, variances
from research.data.sources import Instrument, Request, SourceBars
from research.errors import InputError

Array = NDArray[np.float64]

SYMBOL = "SYNTHETIC"
FIRST_OPEN = 1000.0
WARM_UP = 1024
"""Days simulated before the first bar: after four years the variance no longer depends on its start."""
ENDS = date(2018, 12, 31)
"""Last day if no first day is given, so that a market of usual length has no day in the future."""
CALENDAR = date(1000, 1, 1), date(9999, 12, 31)
"""Days with a four-digit year: other years have no unique text form, or none."""


@dataclass(frozen=True, kw_only=True)
class Market:
    """Settings of a synthetic market; equal settings give equal bars to the bit.

    A longer market of the same seed continues a shorter one; with `start`, both begin on the same day.
    """

    bars: int = 20_000
    """Number of weekdays."""
    signal: float = 0.0
    """Ratio of the drift to the innovation that it repeats; its share of the variance is signal^2 / (1 + signal^2)."""
    lag: int = 20
    """Age in days of the innovation that the drift repeats; 1 is the newest."""
    seed: int = 0
    start: date | None = None
    """First day; if None, chosen so that the bars end on 2018-12-31, or the year 1000 if there are too many bars."""

    def __post_init__(self) -> None:
        _require(self.bars >= 2, "bars", self.bars, "give 2 or more")
        _require(0 <= self.signal <= 5, "signal", self.signal, "give a number from 0 (none) to 5, for example 0.3")
        _require(1 <= self.lag <= 1000, "lag", self.lag, "give 1 to 1000 days")
        _require(self.seed >= 0, "seed", self.seed, "give 0 or more")
        first, last = CALENDAR
        start = self.start
        if start is None:
            fits = self.bars <= np.busday_count(first, ENDS)
            start = date.fromisoformat(str(np.busday_offset(ENDS, 1 - self.bars))) if fits else first
        object.__setattr__(self, "start", start)
        _require(start >= first, "start", start, f"give {first} or later")
        limit = int(np.busday_count(start, last))
        _require(self.bars <= limit, "bars", self.bars, f"give at most {limit:,}, which end in the year {last.year}")

    @property
    def settings(self) -> dict[str, str]:
        """The settings as text for a manifest; `market_from_settings` parses them."""
        return {name: str(getattr(self, name)) for name in READERS}


READERS: dict[str, Callable[[str], Any]] = {"bars": int, "signal": float, "lag": int, "seed": int, "start": date.fromisoformat}
"""Parser of each setting."""
FIXES: dict[Callable[[str], Any], str] = {
    int: "give a whole number",
    float: "give a number",
    date.fromisoformat: "give a date like 1950-01-31",
}


def parse_settings(text: str) -> dict[str, str]:
    """Return the settings in `bars=20000,signal=0.3`; raise `InputError` if a name or value is wrong."""
    settings: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        _require(bool(equals and value), part, None, "write it as name=value, for example signal=0.3")
        _require(name not in settings, name, value, "give each setting once")
        settings[name] = value
    market_from_settings(settings)
    return settings


def market_from_settings(settings: Mapping[str, str]) -> Market:
    """Return the market that the settings describe; missing settings have their defaults."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        _require(name in READERS, name, value, f"no such setting; give one of {', '.join(READERS)}")
        reader = READERS[name]
        try:
            values[name] = reader(value)
        except ValueError:
            raise InputError(f"DATA=synthetic:{name}={value}: {FIXES[reader]}.") from None
    return Market(**values)


def fetch(request: Request) -> SourceBars:
    """Return the bars of the market that the request's settings describe."""
    given = {"SYMBOLS": request.symbols and request.symbols != (SYMBOL,), "START": request.start, "END": request.end}
    for variable, value in given.items():
        if value:
            raise InputError(
                f"{variable}: a synthetic market has only the symbol {SYMBOL} and no calendar; use start= and bars=."
            )
    market = market_from_settings(request.settings)
    return SourceBars(
        source="synthetic",
        bars={SYMBOL: market_bars(market)},
        request=market.settings,
        licence="none: simulated by tapescale",
        versions={"numpy": version("numpy")},
        instruments={SYMBOL: Instrument(kind="simulated")},
    )


def market_bars(market: Market) -> pd.DataFrame:
    """Return simulated OHLCV and the next day's `sigma_next` and `drift_next`, all [days]."""
    streams = (np.random.default_rng(seed) for seed in np.random.SeedSequence(market.seed).spawn(4))
    innovations, highs, lows, volumes = streams
    before = WARM_UP + market.lag
    z = innovations.standard_normal(before + market.bars)
    sigma = np.sqrt(variances(SP500, z))
    surprise = sigma[:-1] * z
    drift = market.signal * surprise[WARM_UP : WARM_UP + market.bars + 1]
    sigma = sigma[before:]
    today = sigma[:-1]
    move = drift[:-1] + surprise[before:]
    close = FIRST_OPEN * np.exp(np.cumsum(move))
    open_ = np.concatenate([[FIRST_OPEN], close[:-1]])
    up = _bridge_maximum(move, today, highs.standard_exponential(market.bars))
    down = _bridge_maximum(-move, today, lows.standard_exponential(market.bars))
    typical = np.sqrt(SP500.mean_variance)
    columns = {
        "open": open_,
        # Rounding may put an extreme one digit inside the bar.
        "high": np.maximum(open_ * np.exp(up), np.maximum(open_, close)),
        "low": np.minimum(open_ * np.exp(-down), np.minimum(open_, close)),
        "close": close,
        "volume": np.round(1e6 * np.exp(0.25 * np.abs(move) / typical + 0.3 * volumes.standard_normal(market.bars))),
        "sigma_next": sigma[1:],
        "drift_next": drift[1:],
    }
    days = np.busday_offset(np.datetime64(market.start), np.arange(market.bars), roll="forward")
    # The unit is microseconds, as in the bundled bars: nanoseconds end in the year 2262.
    return pd.DataFrame(columns, index=pd.DatetimeIndex(days.astype("datetime64[us]"), name="date"))


def _bridge_maximum(move: Array, sigma: Array, exponential: Array) -> Array:
    """Return the maximum of a Brownian path from 0 to `move`, drawn from its exact distribution; all arrays [days].

    P(maximum >= b | move) = exp(-2 b (b - move) / sigma^2), whatever the drift (Glasserman 2004, section 6.4).
    """
    maximum: Array = (move + np.sqrt(np.square(move) + 2 * np.square(sigma) * exponential)) / 2
    return maximum


def _require(condition: bool, name: str, value: object, fix: str) -> None:
    if not condition:
        given = name if value is None else f"{name}={value}"
        raise InputError(f"DATA=synthetic:{given}: {fix}.")
