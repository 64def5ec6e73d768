"""What `make data` is asked for: the options, checked against each other and against what is there already."""

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
"""Options that only this source understands; every other source takes neither them nor a period."""
NAMED = tuple(SETTINGS)
"""Sources whose bars become a data set without being told a name."""


@dataclass(frozen=True, kw_only=True)
class IngestRequest:
    """One data set to bring up to date, one source to take in as it is, or one snapshot to verify."""

    name: str = ""
    """Name of the data set; empty for bars that need none."""
    request: Request | None = None
    """What to ask for; None where a digest was given."""
    digest: str = ""
    """The snapshot to verify."""


def parse_request(options: IngestOptions, root: Path) -> IngestRequest:
    """What the options ask for. What they leave out of a data set that is there stays as it was."""
    known = read_data_set(options.data, root) if options.data else None
    if known:
        require(options.name in ("", known.name), "NAME", options.name, f"DATA={known.name} has its name; leave NAME out.")
        return IngestRequest(name=known.name, request=_with_options(known.request, options))
    choice = _subject(options, root)
    if isinstance(choice, str):
        _refuse_others(options, "a stored snapshot", allowed=())
        return IngestRequest(digest=choice)
    name = options.name or (default_name(choice) if choice.source in NAMED else "")
    if not name:
        return IngestRequest(request=_with_options(choice, options))
    check_name(name)
    known = read_data_set(name, root)
    if known and not options.name:
        _require_same(known, choice)
    if known and known.request.source == choice.source:
        choice = replace(known.request, settings={**known.request.settings, **choice.settings})
    return IngestRequest(name=name, request=_with_options(choice, options))


def _subject(options: IngestOptions, root: Path) -> Request | str:
    """Source and instruments; a file is remembered by where it lies, so that it is found from any folder."""
    symbols = _symbols(options)
    if options.data == "yahoo" or (symbols and not options.data):
        require(bool(symbols), "SYMBOLS", "", "name instruments as Yahoo does, for example SYMBOLS=SPY,QQQ,^VIX.")
        return Request(source="yahoo", symbols=symbols)
    choice = parse_data_argument(options.data or "bundled", root)
    if isinstance(choice, Request) and choice.source == "file":
        return replace(choice, symbols=symbols, settings={"path": str(Path(choice.settings["path"]).resolve())})
    return choice


def _with_options(request: Request, options: IngestOptions) -> Request:
    """The request with what the options say of it."""
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


def _refuse_others(options: IngestOptions, subject: str, allowed: tuple[str, ...]) -> None:
    for name in ("symbols", *PERIOD, "name", *(name for names in SETTINGS.values() for name in names)):
        value = getattr(options, name)
        if value and name not in allowed:
            raise InputError(f"{name.upper()}={value}: this means nothing to {subject}; leave it out.")


def _require_same(known: DataSet, choice: Request) -> None:
    """A name that nobody chose must not turn one data set into another."""
    had, asked = known.request, choice
    same = had.source == asked.source and had.settings.get("path") == asked.settings.get("path")
    subject = ",".join(had.symbols) or had.settings.get("path", "")
    fix = f"this name stands for {subject} of {had.source} already; give another NAME, or NAME={known.name} to change it."
    require(same and (not asked.symbols or set(had.symbols) == set(asked.symbols)), "NAME", known.name, fix)


def _symbols(options: IngestOptions) -> tuple[str, ...]:
    return tuple(dict.fromkeys(symbol.strip() for symbol in options.symbols.split(",") if symbol.strip()))
