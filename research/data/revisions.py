"""Comparison of an instrument's stored bars with newly fetched ones: a status for every day, and the merged bars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from research.data.bars import ACTIONS, OHLCV, PRICE_DECIMALS, PRICES, Mask

DayStatus = Literal["appended", "unchanged", "noise", "rescaled", "revised", "vanished", "dropped", "filled"]
ChangeKind = Literal["revised", "vanished", "dropped", "filled", "dividend", "split", "rescaled"]
Floats = npt.NDArray[np.float64]
Statuses = npt.NDArray[np.object_]

DAY_STATUSES: tuple[DayStatus, ...] = get_args(DayStatus)
LOST = "lost"
"""Preliminary status of a day that only the old bars have, until `keeps` decides."""

COLUMNS = OHLCV + ACTIONS
TRADED, EVENTS = slice(0, len(OHLCV)), slice(len(OHLCV), len(COLUMNS))
CLOSE, VOLUME, DIVIDENDS, SPLITS = (COLUMNS.index(column) for column in ("close", "volume", "dividends", "splits"))
PER_SHARE = [COLUMNS.index(column) for column in [*PRICES, "dividends"]]

RELATIVE_NOISE = 1e-6
"""Relative price difference that is noise: vendors store single precision, and the 7th digit differs between requests."""
SHARE_NOISE = 1.0
"""Volume difference in shares that is noise: vendors round volume to whole shares after a split."""
EVENT_NOISE = 1e-6
"""Difference of a dividend or split ratio that is noise: vendors round old dividends to this after a split."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A difference to an earlier snapshot that is neither growth nor noise."""

    symbol: str
    day: str
    kind: ChangeKind
    column: str
    """Changed column, for example `close`; `close` also stands for a whole bar that was added or removed."""
    old: float | None
    """Value before, rescaled by later splits; None if there was none."""
    new: float | None
    """Value after; None if there is none."""


@dataclass(frozen=True, kw_only=True)
class BarRevisions:
    """Comparison of one instrument's old and new bars, and the merged bars."""

    bars: pd.DataFrame
    """Old and new bars merged. A day that differs only by noise keeps its old bar, so that its digest stays."""
    status: pd.Series[str]
    """Status of every compared day, indexed by day."""
    changes: list[Change]
    """All differences that are neither growth nor noise, by day."""
    gone: list[str]
    """Days in `bars` that the vendor no longer has, including those of earlier comparisons."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of days of each status, zeros included."""
        return {status: int((self.status == status).sum()) for status in DAY_STATUSES}

    def requires_full_history(self, last: pd.Timestamp) -> bool:
        """Return True if days outside the compared ones may have changed too; `last` is the last old day."""
        old_dividend = any(change.kind == "dividend" and change.day <= f"{last:%Y-%m-%d}" for change in self.changes)
        return old_dividend or any(change.kind in ("revised", "split") for change in self.changes)


def compare(
    symbol: str,
    old: pd.DataFrame,
    new: pd.DataFrame,
    *,
    since: pd.Timestamp | None = None,
    keeps: Callable[[pd.Timestamp], bool] = lambda day: True,
    gone: frozenset[str] = frozenset(),
) -> BarRevisions:
    """Return the status of each day from `since` on (every day if None) and the merged bars; keep earlier days unchanged.

    Both frames satisfy the contract of bars. `keeps` decides whether a day stays that only the old bars have. `gone` are
    such days of earlier comparisons; they are not reported again. Other columns, such as a vendor's adjusted close,
    belong to one request; they are kept only if all days were fetched.
    """
    new = new if since is None else new[new.index >= since]
    pair = _AlignedBars(old, new, since)
    status = pair.preliminary_status()
    lost = np.flatnonzero(status == LOST)
    kept = np.array([keeps(day) for day in pair.days[lost]], dtype=bool)
    reported = np.isin(pair.dates, list(gone))
    status[lost] = np.select([~kept, reported[lost]], ["dropped", ""], default="vanished")
    compared = status != ""
    return BarRevisions(
        bars=_merged(pair, status, old, new, whole=since is None),
        status=pd.Series(status[compared], index=pair.days[compared]),
        changes=_changes(symbol, pair, status),
        gone=pair.dates[(status == "vanished") | (reported & ~compared)].tolist(),
    )


class _AlignedBars:
    """Old and new values, both [days, columns], on the union of their days; NaN on days without a bar."""

    def __init__(self, old: pd.DataFrame, new: pd.DataFrame, since: pd.Timestamp | None):
        self.days = pd.DatetimeIndex(old.index.union(new.index), name="date")
        self.dates = np.datetime_as_string(self.days.to_numpy().astype("datetime64[D]"))
        self.has_old, self.has_new = self.days.isin(old.index), self.days.isin(new.index)
        self.has_both = self.has_old & self.has_new
        self.untouched = np.zeros(len(self.days), dtype=bool) if since is None else np.asarray(self.days < since)
        self.within = np.asarray((self.days > old.index[0]) & (self.days < old.index[-1]))
        self.old, self.new = _values(old, self.days), _values(new, self.days)
        self.splits = self._rescale_old()

    def _rescale_old(self) -> dict[int, float]:
        """Divide old prices by new split ratios, as the vendor does; return the ratio by index of each split's day.

        A split that the new prices do not show is not applied: vendors list some splits before they act on them.
        Validation reports the jump.
        """
        ratios = _split_ratios(self.new) / np.where(self.has_both, _split_ratios(self.old), 1.0)
        ratios[~self.has_new] = 1.0
        changed = np.flatnonzero(np.abs(ratios - 1) > EVENT_NOISE)
        indices = [int(index) for index in changed if self.has_old[:index].any()]
        splits: dict[int, float] = {}
        for earlier, index in reversed(list(zip([0, *indices], indices, strict=False))):
            ratio = float(ratios[index])
            before, after = self.old[earlier:index, CLOSE], self.new[earlier:index, CLOSE]
            if _matches(before / ratio, after) >= _matches(before, after):
                splits[index] = ratio
                self.old[:index, PER_SHARE] /= ratio
                self.old[:index, VOLUME] *= ratio
        return splits

    def preliminary_status(self) -> Statuses:
        """Return the status of each day: `LOST` if only the old bars have it, empty if it was not fetched."""
        old, new = (np.round(values[:, TRADED], PRICE_DECIMALS) for values in (self.old, self.new))
        cases = {
            "": self.untouched,
            LOST: ~self.has_new,
            "filled": ~self.has_old & self.within,
            "appended": ~self.has_old,
            "revised": self.revised().any(axis=1),
            "rescaled": np.arange(len(self.days)) < max(self.splits, default=0),
            "noise": (old != new).any(axis=1),
        }
        return np.select(list(cases.values()), list(cases), default="unchanged").astype(object)

    def revised(self) -> Mask:
        """Return a mask [days, 5] of prices and volumes on common days that differ by more than noise."""
        old, difference = self.old[:, TRADED], np.abs(self.new - self.old)[:, TRADED]
        differs = difference > RELATIVE_NOISE * np.abs(old)
        differs[:, VOLUME] &= difference[:, VOLUME] > SHARE_NOISE
        return differs & self.has_both[:, None]

    def events_changed(self) -> Mask:
        """Return a mask [days, 2] of dividends and splits that are new or have another value."""
        return np.asarray(np.abs(self.new - self.old_events())[:, EVENTS] > EVENT_NOISE)

    def old_events(self) -> Floats:
        """Return the old values, with zero instead of NaN on days that only the new bars have."""
        return np.where(self.has_old[:, None], self.old, 0.0)


def _values(bars: pd.DataFrame, days: pd.DatetimeIndex) -> Floats:
    columns = bars.reindex(columns=COLUMNS)
    columns[ACTIONS] = columns[ACTIONS].fillna(0.0)
    return np.array(columns.reindex(days), dtype=np.float64)


def _split_ratios(values: Floats) -> Floats:
    """Return the split ratio of each day, 1 on days without a split."""
    return np.where(values[:, SPLITS] > 0, values[:, SPLITS], 1.0)


def _matches(old: Floats, new: Floats) -> int:
    return int((np.abs(old - new) <= RELATIVE_NOISE * new).sum())


def _merged(pair: _AlignedBars, status: Statuses, old: pd.DataFrame, new: pd.DataFrame, *, whole: bool) -> pd.DataFrame:
    """Return each day's old or new bar by its status, with the columns that either has."""
    from_new = np.isin(status, ["appended", "filled", "revised", "rescaled"])
    values = np.where(from_new[:, None], pair.new, pair.old)
    # The vendor's latest dividend or split is valid on any day.
    values[:, EVENTS] = np.where(pair.events_changed(), pair.new[:, EVENTS], values[:, EVENTS])
    columns = [column for column in COLUMNS if column in old.columns or column in new.columns]
    others = [column for column in new.columns if column not in COLUMNS] if whole else []
    merged: pd.DataFrame = pd.DataFrame(values, index=pair.days, columns=COLUMNS).loc[status != "dropped", columns]
    return merged.join(new[others]) if others else merged


def _changes(symbol: str, pair: _AlignedBars, status: Statuses) -> list[Change]:
    """Return all differences that are neither growth nor noise, by day."""
    missing = np.full_like(pair.old, np.nan)

    def marked(kind: ChangeKind, mask: Mask, column: int, old: Floats, new: Floats) -> list[Change]:
        return [
            Change(
                symbol=symbol,
                day=str(pair.dates[index]),
                kind=kind,
                column=COLUMNS[column],
                old=_none_if_nan(old[index, column]),
                new=_none_if_nan(new[index, column]),
            )
            for index in np.flatnonzero(mask)
        ]

    rescaled = [
        Change(symbol=symbol, day=str(pair.dates[index]), kind="rescaled", column="prices", old=1.0, new=1 / ratio)
        for index, ratio in pair.splits.items()
    ]
    revised, events_changed, events = pair.revised(), pair.events_changed(), pair.old_events()
    changes = [
        *rescaled,
        *(
            change
            for column in range(len(OHLCV))
            for change in marked("revised", revised[:, column], column, pair.old, pair.new)
        ),
        *marked("vanished", status == "vanished", CLOSE, pair.old, missing),
        *marked("dropped", status == "dropped", CLOSE, pair.old, missing),
        *marked("filled", status == "filled", CLOSE, missing, pair.new),
        *marked("dividend", events_changed[:, 0], DIVIDENDS, events, pair.new),
        *marked("split", events_changed[:, 1], SPLITS, events, pair.new),
    ]
    return sorted(changes, key=lambda change: change.day)


def _none_if_nan(value: float) -> float | None:
    return None if value != value else float(value)
