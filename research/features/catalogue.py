"""The catalogue of features: every definition, its source, and the sets that contain it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from research.features.feature import Feature, Group
from research.features.feature_sets import WHOLE_SETS, feature_set_named
from research.features.reference_columns import BOUND
from research.features.reference_series import OLDEST
from research.features.volatility import VOLATILITY_FLOOR

LEGEND = (
    "O, H, L, C, V: open, high, low, close, volume; r: log return of C; m, s: mean and deviation; x[-n]: x n sessions earlier.",
    "I: the index's close of the same session. X: the volatility index's close of the session before; the same session's is "
    "computed 15 minutes too late.",
    f"A reference without a bar for a session keeps its last close, at most {OLDEST} calendar days old.",
    f"Volatilities are at least {VOLATILITY_FLOOR:g} a day before the logarithm. In s50 and s100 the reference columns stay "
    f"within ±{BOUND:g} and are 0 without trade or movement.",
    "warm-up: sessions before the first one that has a value.",
)


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """A definition and its sets."""

    feature: Feature
    sets: tuple[str, ...]
    """Names of the sets that contain the feature."""


@dataclass(frozen=True, kw_only=True)
class SetSize:
    """Number of columns and warm-up of a set."""

    name: str
    own: int
    """Number of columns from the instrument's own bars."""
    index: int
    """Number of columns that an index adds."""
    volatility_index: int
    """Number of columns that a volatility index adds."""
    own_warm_up: int
    """Number of sessions before the first complete row, without other instruments."""
    whole_warm_up: int
    """Number of sessions before the first complete row, with an index and a volatility index."""


def catalogue(features: str = "") -> dict[Group, list[CatalogueEntry]]:
    """Return every definition by group, or those of one set; a raw column and its stationary form are two definitions."""
    holders: dict[tuple[str, str], list[str]] = {}
    definitions: dict[tuple[str, str], Feature] = {}
    # The widest set comes first, so that definitions follow the order of its modules.
    for whole in reversed(WHOLE_SETS.values()):
        for feature in whole.features:
            key = (feature.name, feature.formula)
            holders.setdefault(key, []).append(whole.name)
            definitions.setdefault(key, feature)
    only = feature_set_named(features).name if features else ""
    entries = [
        CatalogueEntry(feature=feature, sets=tuple(reversed(holders[key])))
        for key, feature in definitions.items()
        if not only or only in holders[key]
    ]
    groups = {group: [entry for entry in entries if entry.feature.group == group] for group in get_args(Group)}
    return {group: entries for group, entries in groups.items() if entries}


def set_sizes() -> list[SetSize]:
    """Return the size and warm-up of every set."""
    sizes: list[SetSize] = []
    for whole in WHOLE_SETS.values():
        needs = [feature.needs for feature in whole.features]
        sizes.append(
            SetSize(
                name=whole.name,
                own=needs.count(None),
                index=needs.count("index"),
                volatility_index=needs.count("volatility_index"),
                own_warm_up=feature_set_named(whole.name).warm_up,
                whole_warm_up=whole.warm_up,
            )
        )
    return sizes
