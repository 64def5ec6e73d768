"""Where bars come from. A source is one function that returns a `SourceBars`; nothing falls back to another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from research.spec import InputError

BUNDLED_FILES = {
    "^GSPC": ("sp500/sp500.csv.gz", "1e028cbb9c400cc018c816ccc439b33c919387e726c3ed5ca2c05c82746059de"),
    "^IXIC": ("nasdaq/nasdaq.csv.gz", "b2009535343ebb14e0aa11ed086788d2997a416ffe4f9450eed9a561ae30ac59"),
}
"""Instrument -> (file inside `arch.data`, its SHA-256)."""

SLUGS = {"^GSPC": "sp500", "^IXIC": "nasdaq"}
"""Names of instruments in experiments and models, where `^` may not stand."""


@dataclass(frozen=True, kw_only=True)
class SourceBars:
    """What a source delivered, before validation."""

    source: str
    """Name said aloud everywhere: `bundled`."""
    bars: dict[str, pd.DataFrame]
    """Per symbol: index of dates, columns open high low close volume, and the vendor's adj_close."""
    request: dict[str, str]
    """What was asked for, enough to ask again."""
    licence: str
    """Terms under which the bars were obtained."""
    versions: dict[str, str] = field(default_factory=dict)
    """Library versions that took part."""


def slug(symbol: str) -> str:
    """Instrument name safe in experiment and model names."""
    return SLUGS.get(symbol, "".join(letter for letter in symbol.lower() if letter.isalnum()))


def bundled() -> SourceBars:
    """Real daily bars of the S&P 500 and the Nasdaq Composite, 1999-2018, from the installed `arch` package."""
    return SourceBars(
        source="bundled",
        bars={symbol: _read_bundled(symbol) for symbol in BUNDLED_FILES},
        request={symbol: f"arch.data/{name}" for symbol, (name, _) in BUNDLED_FILES.items()},
        licence="University of Illinois/NCSA (arch package); prices originally from Yahoo Finance",
        versions={"arch": version("arch")},
    )


def _read_bundled(symbol: str) -> pd.DataFrame:
    name, expected = BUNDLED_FILES[symbol]
    path = _arch_data_folder() / name
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise InputError(
            f"{path.name}: sha256 {actual[:12]}… is not the {expected[:12]}… this platform was checked with; "
            "reinstall with `make setup`."
        )
    frame = pd.read_csv(path, index_col=0, parse_dates=True, compression="gzip")
    frame.columns = [str(column).lower().replace(" ", "_") for column in frame.columns]
    frame.index = pd.DatetimeIndex(frame.index, name="date")
    return frame.astype("float64")


def _arch_data_folder() -> Path:
    """Found without importing `arch`, which would load statsmodels for two seconds."""
    found = find_spec("arch")
    if found is None or found.origin is None:
        raise InputError("DATA=bundled: the package arch is not installed; run `make setup`.")
    return Path(found.origin).parent / "data"


SOURCES: dict[str, Callable[[], SourceBars]] = {"bundled": bundled}
"""Every source by the name users type."""
