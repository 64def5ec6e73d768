"""A second look at an instrument: every day of the old bars and of the new ones gets one word, and both are merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from research.data.bars import ACTIONS, OHLCV, PRICE_DECIMALS, PRICES

DayStatus = Literal["appended", "unchanged", "noise", "rescaled", "revised", "vanished", "dropped", "filled"]
ChangeKind = Literal["revised", "vanished", "dropped", "filled", "dividend", "split", "rescaled"]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Statuses = npt.NDArray[np.object_]

DAY_STATUSES: tuple[DayStatus, ...] = ("appended", "unchanged", "noise", "rescaled", "revised", "vanished", "dropped", "filled")
LOST = "lost"
"""Stands for a day that only the old bars have until it is decided whether it stays."""

COLUMNS = OHLCV + ACTIONS
TRADED, EVENTS = slice(0, len(OHLCV)), slice(len(OHLCV), len(COLUMNS))
CLOSE, VOLUME, DIVIDENDS, SPLITS = (COLUMNS.index(column) for column in ("close", "volume", "dividends", "splits"))
PER_SHARE = [COLUMNS.index(column) for column in [*PRICES, "dividends"]]

RELATIVE_NOISE = 1e-6
"""Vendors keep prices in single precision: the 7th digit differs between two identical requests."""
SHARE_NOISE = 1.0
"""Volume that was divided by a split ratio is rounded to whole shares."""
EVENT_NOISE = 1e-6
"""Dividends of old days are rounded to this after a split."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that a reader of a refreshed data set must know."""

    symbol: str
    day: str
    kind: ChangeKind
    column: str
    """What changed: `close`, `volume`, `dividends`; `close` stands for the whole bar where one came or went."""
    old: float | None
    """Value before; None where there was none. After a split the rescaled one."""
    new: float | None
    """Value after; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class BarRevisions:
    """What was found in one instrument, and the bars that follow from it."""

    bars: pd.DataFrame
    """Old and new merged. A day that is the same up to noise keeps its old bar, so that its digest stays."""
    words: pd.Series[str]
    """The word of every day that was compared."""
    listed: list[Change]
    """All that is neither growth nor noise."""
    gone: list[str]
    """Days in `bars` that the vendor does not have, those withdrawn earlier included."""

    @property
    def counts(self) -> dict[str, int]:
        """Days per word, every word there."""
        return {word: int((self.words == word).sum()) for word in DAY_STATUSES}

    def asks_for_all(self, last: pd.Timestamp) -> bool:
        """Whether days outside the compared ones may have changed too; `last` is the last of the old days."""
        old_dividend = any(one.kind == "dividend" and one.day <= f"{last:%Y-%m-%d}" for one in self.listed)
        return old_dividend or any(one.kind in ("revised", "split") for one in self.listed)


def compare(
    symbol: str,
    old: pd.DataFrame,
    new: pd.DataFrame,
    *,
    since: pd.Timestamp | None = None,
    keeps: Callable[[pd.Timestamp], bool] = lambda day: True,
    gone: frozenset[str] = frozenset(),
) -> BarRevisions:
    """Classify each day from `since` on (every day if None) and merge; days before it are taken over as they are.

    Both frames keep the contract of bars. `keeps` says of a day that only the old bars have whether it stays;
    `gone` are such days of earlier comparisons, which are no news. Columns besides prices, volume and events
    (a vendor's adjusted close) belong to one request, so they are kept only where all days were asked for.
    """
    new = new if since is None else new[new.index >= since]
    pair = _AlignedBars(old, new, since)
    words = pair.words()
    lost = np.flatnonzero(words == LOST)
    stays = np.array([keeps(day) for day in pair.days[lost]], dtype=bool)
    told = np.isin(pair.dates, list(gone))
    words[lost] = np.select([~stays, told[lost]], ["dropped", ""], default="vanished")
    asked = words != ""
    return BarRevisions(
        bars=_merged(pair, words, old, new, whole=since is None),
        words=pd.Series(words[asked], index=pair.days[asked]),
        listed=_listed(symbol, pair, words),
        gone=pair.dates[(words == "vanished") | (told & ~asked)].tolist(),
    )


class _AlignedBars:
    """Old and new bars side by side on all days that either has; NaN where one has none."""

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
        """Bring the old bars to the scale that new splits give the vendor's past: place of each split -> its ratio.

        A split that the new prices do not show (vendors list some before they act on them) rescales nothing; validation
        sees the jump.
        """
        ratios = _ratios(self.new) / np.where(self.has_both, _ratios(self.old), 1.0)
        ratios[~self.has_new] = 1.0
        places = [int(place) for place in np.flatnonzero(np.abs(ratios - 1) > EVENT_NOISE) if self.has_old[:place].any()]
        splits: dict[int, float] = {}
        for earlier, place in reversed(list(zip([0, *places], places, strict=False))):
            ratio = float(ratios[place])
            before, after = self.old[earlier:place, CLOSE], self.new[earlier:place, CLOSE]
            if _agreeing(before / ratio, after) >= _agreeing(before, after):
                splits[place] = ratio
                self.old[:place, PER_SHARE] /= ratio
                self.old[:place, VOLUME] *= ratio
        return splits

    def words(self) -> Statuses:
        """The word of each day; `LOST` for those that only the old bars have, empty where nothing was asked."""
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
        """Where prices or volume of a day that both have differ by more than noise."""
        old, difference = self.old[:, TRADED], np.abs(self.new - self.old)[:, TRADED]
        loud = difference > RELATIVE_NOISE * np.abs(old)
        loud[:, VOLUME] &= difference[:, VOLUME] > SHARE_NOISE
        return loud & self.has_both[:, None]

    def moved(self) -> Mask:
        """Where a day that the vendor has brings a dividend or a split that was not known, or another one than before."""
        return np.asarray(np.abs(self.new - self.old_events())[:, EVENTS] > EVENT_NOISE)

    def old_events(self) -> Floats:
        """The old values, zero on days that are new: no event was known of them."""
        return np.where(self.has_old[:, None], self.old, 0.0)


def _values(bars: pd.DataFrame, days: pd.DatetimeIndex) -> Floats:
    known = bars.reindex(columns=COLUMNS)
    known[ACTIONS] = known[ACTIONS].fillna(0.0)
    return np.array(known.reindex(days), dtype=np.float64)


def _ratios(values: Floats) -> Floats:
    """Split ratio of each day, 1 where there is none."""
    return np.where(values[:, SPLITS] > 0, values[:, SPLITS], 1.0)


def _agreeing(old: Floats, new: Floats) -> int:
    return int((np.abs(old - new) <= RELATIVE_NOISE * new).sum())


def _merged(pair: _AlignedBars, words: Statuses, old: pd.DataFrame, new: pd.DataFrame, *, whole: bool) -> pd.DataFrame:
    """Each day's bar from where its word says, with the columns that its sources have."""
    from_new = np.isin(words, ["appended", "filled", "revised", "rescaled"])
    values = np.where(from_new[:, None], pair.new, pair.old)
    # Of a dividend or a split the vendor's latest word counts on any day.
    values[:, EVENTS] = np.where(pair.moved(), pair.new[:, EVENTS], values[:, EVENTS])
    columns = [column for column in COLUMNS if column in old.columns or column in new.columns]
    others = [column for column in new.columns if column not in COLUMNS] if whole else []
    merged: pd.DataFrame = pd.DataFrame(values, index=pair.days, columns=COLUMNS).loc[words != "dropped", columns]
    return merged.join(new[others]) if others else merged


def _listed(symbol: str, pair: _AlignedBars, words: Statuses) -> list[Change]:
    """All that is neither growth nor noise, in the order of days."""
    nothing = np.full_like(pair.old, np.nan)

    def changes(kind: ChangeKind, marked: Mask, column: int, old: Floats, new: Floats) -> list[Change]:
        places = np.flatnonzero(marked)
        values = zip(pair.dates[places].tolist(), _known(old[places, column]), _known(new[places, column]), strict=True)
        return [
            Change(symbol=symbol, day=day, kind=kind, column=COLUMNS[column], old=before, new=after)
            for day, before, after in values
        ]

    revised, moved, events = pair.revised(), pair.moved(), pair.old_events()
    found = [
        *_rescalings(symbol, pair),
        *(one for column in range(len(OHLCV)) for one in changes("revised", revised[:, column], column, pair.old, pair.new)),
        *changes("vanished", words == "vanished", CLOSE, pair.old, nothing),
        *changes("dropped", words == "dropped", CLOSE, pair.old, nothing),
        *changes("filled", words == "filled", CLOSE, nothing, pair.new),
        *changes("dividend", moved[:, 0], DIVIDENDS, events, pair.new),
        *changes("split", moved[:, 1], SPLITS, events, pair.new),
    ]
    return sorted(found, key=lambda one: one.day)


def _rescalings(symbol: str, pair: _AlignedBars) -> list[Change]:
    return [
        Change(symbol=symbol, day=str(pair.dates[place]), kind="rescaled", column="prices", old=1.0, new=1 / ratio)
        for place, ratio in pair.splits.items()
    ]


def _known(values: Floats) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
