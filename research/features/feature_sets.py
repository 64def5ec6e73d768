"""Named and versioned feature sets, and the feature matrix of an instrument.

`a25` and `a25s` are the reference columns, raw and stationary. `s50` and `s100` contain the same 25, made finite on any
bars, and further stationary columns; `s100` contains all of `s50`. Columns that need an index or a volatility index exist
only if the set is given one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from research.errors import InputError
from research.features.calendar import CALENDAR_FEATURES
from research.features.cross_asset import CROSS_ASSET_FEATURES
from research.features.drawdown import DRAWDOWN_FEATURES
from research.features.feature import Bars, FeatureSet, Reference, Series
from research.features.moments import MOMENT_FEATURES
from research.features.oscillators import OSCILLATOR_FEATURES
from research.features.range_volatility import RANGE_FEATURES
from research.features.reference_columns import BOUNDED_FEATURES, RAW_FEATURES, STATIONARY_FEATURES
from research.features.reference_series import joined_references
from research.features.returns import RETURN_FEATURES
from research.features.trend import TREND_FEATURES
from research.features.volatility import VOLATILITY_FEATURES
from research.features.volume import VOLUME_FEATURES
from research.fingerprint import digest_bytes
from research.spec import FeatureSpec

S50_ADDS = {
    *("return_5", "return_20", "return_60", "overnight_return", "shock"),
    *("realised_volatility_5", "realised_volatility_20", "volatility_ratio_20_120", "ewma_volatility"),
    *("downside_volatility_20", "yang_zhang_20", "volatility_of_volatility_20"),
    *("drawdown_120", "mfi_14", "trend_slope_60", "illiquidity_20", "skewness_60"),
    *("weekday_sine", "weekday_cosine"),
    *("index_return_5", "index_beta_60", "relative_strength_20"),
    *("implied_volatility", "implied_change_5", "implied_over_realised"),
}
"""Columns of `s50` besides the reference columns; `s100` contains all columns."""

ADDED_FEATURES = (
    *RETURN_FEATURES,
    *VOLATILITY_FEATURES,
    *RANGE_FEATURES,
    *DRAWDOWN_FEATURES,
    *TREND_FEATURES,
    *OSCILLATOR_FEATURES,
    *VOLUME_FEATURES,
    *MOMENT_FEATURES,
    *CALENDAR_FEATURES,
    *CROSS_ASSET_FEATURES,
)

A25 = FeatureSet(name="a25", version=1, features=RAW_FEATURES)
A25S = FeatureSet(name="a25s", version=1, features=STATIONARY_FEATURES)
S50 = FeatureSet(
    name="s50", version=1, features=(*BOUNDED_FEATURES, *(feature for feature in ADDED_FEATURES if feature.name in S50_ADDS))
)
S100 = FeatureSet(name="s100", version=1, features=(*BOUNDED_FEATURES, *ADDED_FEATURES))

WHOLE_SETS = {feature_set.name: feature_set for feature_set in (A25, A25S, S50, S100)}
"""Every set with all columns, including those that need another instrument."""


def with_references(whole: FeatureSet, *, index: str = "", volatility_index: str = "") -> FeatureSet:
    """Return the set with the given instruments and only the columns that exist with them."""
    given: dict[Reference | None, str] = {"index": index, "volatility_index": volatility_index}
    for reference, name in given.items():
        if name and all(feature.needs != reference for feature in whole.features):
            raise InputError(
                f"{str(reference).upper()}={name}: {whole.name} has no cross-asset features; give FEATURES=s50 or s100, "
                f"or leave {str(reference).upper()} out."
            )
    columns = tuple(feature for feature in whole.features if feature.needs is None or given[feature.needs])
    return replace(whole, features=columns, index=index, volatility_index=volatility_index)


def feature_set_named(name: str, *, index: str = "", volatility_index: str = "") -> FeatureSet:
    """Return the set with the columns that the given instruments allow; raise `InputError` if the name is unknown."""
    if name not in WHOLE_SETS:
        *others, last = WHOLE_SETS
        raise InputError(f"FEATURES={name}: no such feature set; give {', '.join(others)} or {last}.")
    return with_references(WHOLE_SETS[name], index=index, volatility_index=volatility_index)


@dataclass(frozen=True, kw_only=True)
class FeatureMatrix:
    """The features of one instrument."""

    spec: FeatureSpec
    days: pd.DatetimeIndex
    columns: list[str]
    values: Series
    """Values [days, features], NaN before `first_row`."""
    first_row: int
    """First row in which every feature has a value."""
    digest: str
    """Digest of days, columns and values in single precision."""


def build(feature_set: FeatureSet, frame: pd.DataFrame, references: Mapping[str, pd.DataFrame] | None = None) -> FeatureMatrix:
    """Compute every feature of a set on raw bars; raise `InputError` if a value after the warm-up is not finite.

    `references` maps the names of the set's index and volatility index to their bars.
    """
    days = pd.DatetimeIndex(frame.index)
    bars = Bars.of(frame, joined_references(feature_set, days, references or {}))
    values = np.column_stack([feature.compute(bars) for feature in feature_set.features])
    finite = np.isfinite(values)
    complete = finite.all(axis=1)
    first_row = int(complete.argmax()) if complete.any() else len(values)
    if first_row == len(values):
        fix = f"{len(days)} days are too few for its warm-up; use a longer history."
        raise InputError(f"FEATURES={feature_set.name}: {fix}")
    holes = np.argwhere(~finite[first_row:])
    if len(holes):
        row, column = holes[0]
        raise InputError(
            f"FEATURES={feature_set.name}: {feature_set.columns[column]} is not finite on "
            f"{days[first_row + row]:%Y-%m-%d}; check the bars of that day."
        )
    digest = digest_bytes(
        bars.days.to_numpy().tobytes(), ",".join(feature_set.columns).encode(), values[first_row:].astype("<f4").tobytes()
    )
    return FeatureMatrix(
        spec=feature_set.spec, days=bars.days, columns=feature_set.columns, values=values, first_row=first_row, digest=digest
    )
