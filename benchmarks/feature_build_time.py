"""Build time of a feature set."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pandas as pd

from research.features.feature import FeatureSet
from research.features.feature_sets import WHOLE_SETS, build, with_references


def build_milliseconds(name: str, rows: int = 10_000, repeats: int = 5) -> float:
    """Return the median seconds to build all columns of a set, including those that need other instruments."""
    bars = _random_walk(rows)
    needs = {feature.needs for feature in WHOLE_SETS[name].features if feature.needs}
    feature_set = with_references(WHOLE_SETS[name], **{str(reference): "other" for reference in needs})
    return statistics.median(_once(feature_set, bars) for _ in range(repeats))


def _once(feature_set: FeatureSet, bars: pd.DataFrame) -> float:
    start = time.perf_counter()
    build(feature_set, bars, {"other": bars})
    return 1000 * (time.perf_counter() - start)


def _random_walk(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, rows)))
    open_ = close * np.exp(rng.normal(0, 0.005, rows))
    spread = np.exp(np.abs(rng.normal(0, 0.005, (2, rows))))
    prices = {
        "open": open_,
        "high": np.maximum(open_, close) * spread[0],
        "low": np.minimum(open_, close) / spread[1],
        "close": close,
    }
    return pd.DataFrame({**prices, "volume": rng.lognormal(10, 1, rows)}, index=pd.bdate_range("1980-01-01", periods=rows))
