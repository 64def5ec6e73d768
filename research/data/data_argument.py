"""What `DATA=` selects: a source on this machine, a file, a named data set, or a snapshot by its digest."""

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
    """A request to a source that needs no network, or the digest of a snapshot below `root`.

    `InputError` lists what there is. No source ever stands in for another.
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
        return _digest_of(data, root)
    if data and Path(data).exists():
        return Request(source="file", settings={"path": data})
    raise _unknown(data, root)


def bars_of(data: str, root: Path) -> dict[str, pd.DataFrame] | Snapshot:
    """The bars that `DATA=` selects, read without a store and without writing anything.

    Bars that come from a source are as it gave them: nothing has validated them.
    """
    choice = parse_data_argument(data, root)
    return load_snapshot(choice, root) if isinstance(choice, str) else source_named(choice.source)(choice).bars


def looks_like_path(data: str) -> bool:
    """Whether the text can only mean a file or a folder."""
    return os.sep in data or "/" in data or data.lower().endswith(SUFFIXES) or data in (".", "..")


def _digest_of(prefix: str, root: Path) -> str:
    """The only digest that starts so; the text itself if none does, for `load_snapshot` to refuse."""
    found = [digest for digest in digests_in(root) if digest.startswith(prefix)]
    require(len(found) < 2, "DATA", prefix, f"several snapshots start so: {', '.join(found)}; give more letters.")
    return found[0] if found else prefix


def _unknown(data: str, root: Path) -> InputError:
    names = data_set_names(root)
    close = get_close_matches(data, names, n=1)
    ordered = [*close, *(name for name in names if name not in close)]
    meant = f" (did you mean {close[0]}?)" if close else ""
    sets = ", ".join(_described(name, root) for name in ordered) or "none"
    return InputError(
        f"DATA={data}: no such source, file or data set{meant}; there are the data sets: {sets}. Give one of them, bundled, "
        "synthetic, a file, or a snapshot's digest; make data SYMBOLS=... makes a data set."
    )


def _described(name: str, root: Path) -> str:
    """The name and when its newest snapshot was taken."""
    try:
        data_set = read_data_set(name, root)
    except InputError:
        return f"{name} (unreadable)"
    assert data_set is not None, name
    return f"{name} ({data_set.history[-1].at[:10]})"
