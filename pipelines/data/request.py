"""The request of `make data`: its options, checked against each other and against the stored data sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.data.options import IngestOptions
from research.data.data_argument import parse_data_argument
from research.data.data_sets import DataSet, check_name, default_name, read_data_set
from research.data.sources import Request
from research.errors import InputError, require

PERIOD = ("start", "end")
SETTINGS = {"yahoo": ("timeout",), "file": ("columns", "calendar", "kind", "prices")}
"""Options of one source only. Every other source takes neither these options nor a period.

Bars of these sources become a data set even if no NAME is given."""


@dataclass(frozen=True, kw_only=True)
class IngestRequest:
    """A data set to bring up to date, a source to store once, or a snapshot to verify."""

    name: str = ""
    """Name of the data set; empty for bars without one."""
    request: Request | None = None
    """Request to the source; None if a digest was given."""
    digest: str = ""
    """Digest of the snapshot to verify."""


def parse_request(options: IngestOptions, root: Path) -> IngestRequest:
    """Return the request that the options describe; options that are left out keep a stored data set's values.

    `root` is the folder of snapshots. Raises `InputError` if the options contradict each other or a stored data set.
    """
    data_set = read_data_set(options.data, root) if options.data else None
    if data_set:
        fix = f"DATA={data_set.name} is the data set's name already; leave NAME out."
        require(options.name in ("", data_set.name), "NAME", options.name, fix)
        return IngestRequest(name=data_set.name, request=_with_options(data_set.request, options))
    choice = _parse_source(options, root)
    if isinstance(choice, str):
        _refuse_others(options, "a stored snapshot", allowed=())
        return IngestRequest(digest=choice)
    name = options.name or (default_name(choice) if choice.source in SETTINGS else "")
    if not name:
        return IngestRequest(request=_with_options(choice, options))
    check_name(name)
    data_set = read_data_set(name, root)
    if data_set and not options.name:
        _require_same(data_set, choice)
    if data_set and data_set.request.source == choice.source:
        choice = replace(data_set.request, settings={**data_set.request.settings, **choice.settings})
    return IngestRequest(name=name, request=_with_options(choice, options))


def _parse_source(options: IngestOptions, root: Path) -> Request | str:
    """Return source and symbols, or a digest; a file's path is made absolute, so that it is found from any folder."""
    symbols = _symbols(options)
    if options.data == "yahoo" or (symbols and not options.data):
        require(bool(symbols), "SYMBOLS", "", "no symbol is given; name instruments as Yahoo does, for example SPY,QQQ,^VIX.")
        return Request(source="yahoo", symbols=symbols)
    choice = parse_data_argument(options.data or "bundled", root)
    if isinstance(choice, Request) and choice.source == "file":
        return replace(choice, symbols=symbols, settings={"path": str(Path(choice.settings["path"]).resolve())})
    return choice


def _with_options(request: Request, options: IngestOptions) -> Request:
    """Return the request with the options that were given; raise `InputError` for those its source does not take."""
    own = SETTINGS.get(request.source, ())
    _refuse_others(options, request.source, allowed=(*own, *(("symbols", *PERIOD) if own else ()), "name"))
    settings = {name: str(getattr(options, name)) for name in own if getattr(options, name)}
    return replace(
        request,
        symbols=_symbols(options) or request.symbols,
        start=options.start or request.start,
        end=options.end or request.end,
        settings={**request.settings, **settings},
    )


def _refuse_others(options: IngestOptions, source: str, allowed: tuple[str, ...]) -> None:
    for name in ("symbols", *PERIOD, "name", *(name for names in SETTINGS.values() for name in names)):
        value = getattr(options, name)
        if value and name not in allowed:
            raise InputError(f"{name.upper()}={value}: does not apply to {source}; leave it out.")


def _require_same(data_set: DataSet, choice: Request) -> None:
    """Raise if a default name would replace the instruments or the source of a stored data set."""
    stored = data_set.request
    same = stored.source == choice.source and stored.settings.get("path") == choice.settings.get("path")
    subject = ",".join(stored.symbols) or stored.settings.get("path", "")
    holds = f"the data set of this name holds {subject} from {stored.source}"
    fix = f"{holds}; give another NAME, or NAME={data_set.name} to change it."
    require(same and (not choice.symbols or set(stored.symbols) == set(choice.symbols)), "NAME", data_set.name, fix)


def _symbols(options: IngestOptions) -> tuple[str, ...]:
    return tuple(dict.fromkeys(symbol.strip() for symbol in options.symbols.split(",") if symbol.strip()))
