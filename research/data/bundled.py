"""The bundled source: real daily bars inside the installed `arch` package, verified by SHA-256."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from research.data.sources import Instrument, Request, SourceBars
from research.errors import InputError

FILES = {
    "^GSPC": ("sp500/sp500.csv.gz", "1e028cbb9c400cc018c816ccc439b33c919387e726c3ed5ca2c05c82746059de"),
    "^IXIC": ("nasdaq/nasdaq.csv.gz", "b2009535343ebb14e0aa11ed086788d2997a416ffe4f9450eed9a561ae30ac59"),
}
"""File inside `arch.data` and its SHA-256, by instrument."""


def fetch(request: Request) -> SourceBars:
    """Return daily bars of the S&P 500 and the Nasdaq Composite, 1999-2018; the request cannot narrow them."""
    return SourceBars(
        source="bundled",
        bars={symbol: _read(symbol) for symbol in FILES},
        request={symbol: f"arch.data/{name}" for symbol, (name, _) in FILES.items()},
        licence="University of Illinois/NCSA (arch package); prices originally from Yahoo Finance",
        versions={"arch": version("arch")},
        instruments={symbol: Instrument(calendar="XNYS", kind="index", currency="USD") for symbol in FILES},
    )


def bundled() -> SourceBars:
    """Return the bundled bars."""
    return fetch(Request(source="bundled"))


def _read(symbol: str) -> pd.DataFrame:
    name, expected = FILES[symbol]
    path = _arch_data_folder() / name
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise InputError(
            f"DATA=bundled: {path.name} has SHA-256 {actual[:12]}… instead of the verified {expected[:12]}…; "
            "reinstall with `make setup`."
        )
    frame = pd.read_csv(path, index_col=0, parse_dates=True, compression="gzip")
    frame.columns = [str(column).lower().replace(" ", "_") for column in frame.columns]
    frame.index = pd.DatetimeIndex(frame.index, name="date")
    return frame.astype("float64")


def _arch_data_folder() -> Path:
    """Return the folder of arch's data without importing `arch`, which would load statsmodels for two seconds."""
    package = find_spec("arch")
    if package is None or package.origin is None:
        raise InputError("DATA=bundled: the package arch is not installed; run `make setup`.")
    return Path(package.origin).parent / "data"
