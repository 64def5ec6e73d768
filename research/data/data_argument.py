"""Values of `DATA=`: a local source, a file, a named data set, or a snapshot's digest."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from research.data.data_sets import SHORTEST_PREFIX, data_set_names, read_data_set
from research.data.snapshots import Snapshot, digests_in, load_snapshot
from research.data.sources import NOT_BY_NAME, SOURCES, Request, parse_source_settings, source_named
from research.data.table_files import SUFFIXES
from research.errors import InputError, require
from research.fingerprint import FINGERPRINT_LENGTH


def parse_data_argument(data: str, root: Path) -> Request | str:
    """Return a request to a source that needs no network, or the digest of a snapshot below `root`.

    Raises `InputError` with the available data if `data` matches nothing. No source ever replaces another.
    """
    source, _, settings = data.partition(":")
    if source in SOURCES and source not in NOT_BY_NAME and (settings or source == data):
        return Request(source=source, settings=parse_source_settings(source, settings))
    if looks_like_path(data):
        return Request(source="file", settings={"path": data})
    data_set = read_data_set(data, root)
    if data_set:
        return data_set.digest
    if re.fullmatch(f"[0-9a-f]{{{SHORTEST_PREFIX},{FINGERPRINT_LENGTH}}}", data):
        digests = [digest for digest in digests_in(root) if digest.startswith(data)]
        require(len(digests) < 2, "DATA", data, f"several snapshots match: {', '.join(digests)}; give more letters.")
        # An unknown digest is returned as given, for `load_snapshot` to refuse.
        return digests[0] if digests else data
    if data and Path(data).exists():
        return Request(source="file", settings={"path": data})
    raise _unknown(data, root)


def bars_of(data: str, root: Path) -> dict[str, pd.DataFrame] | Snapshot:
    """Return the bars that `DATA=` selects without a store and without writing anything.

    Bars that come directly from a source are not validated.
    """
    choice = parse_data_argument(data, root)
    return load_snapshot(choice, root) if isinstance(choice, str) else source_named(choice.source)(choice).bars


def looks_like_path(data: str) -> bool:
    """Return True if the text can only be a file or a folder."""
    return os.sep in data or "/" in data or data.lower().endswith(SUFFIXES) or data in (".", "..")


def _unknown(data: str, root: Path) -> InputError:
    names = data_set_names(root)
    close = get_close_matches(data, names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    described: list[str] = []
    for name in [*close, *(name for name in names if name not in close)]:
        try:
            data_set = read_data_set(name, root)
            described.append(f"{name} ({data_set.history[-1].at[:10]})" if data_set else name)
        except InputError:
            described.append(f"{name} (unreadable)")
    return InputError(
        f"DATA={data}: no such source, file or data set{hint}; stored data sets: {', '.join(described) or 'none'}. "
        "Give one of these, bundled, synthetic, a file, or a snapshot's digest; make data SYMBOLS=... makes a data set."
    )
