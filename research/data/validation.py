"""Validation of a source's bars against the contract and the exchange's calendar, before anything is stored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from difflib import get_close_matches

import pandas as pd

from research.data.bars import format_error
from research.data.calendars import Calendar, calendar_named, session_closes
from research.data.sources import Instrument, SourceBars
from research.data.validation_rules import ALLOWABLE, REAL, RULES, InspectedBars, Severity
from research.errors import InputError

UNCLOSED = "unclosed-bar"
MALFORMED = "malformed"
NO_DAYS = pd.DatetimeIndex([])


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule that the bars of an instrument break."""

    symbol: str
    rule: str
    """Name in `RULES`, or `unclosed-bar` for a bar that was removed."""
    days: tuple[date, ...]
    """Days on which the rule is broken."""
    sentence: str
    """Description in one sentence that names the symbol."""
    severity: Severity
    """An error stops the ingestion; an allowed error is a warning."""


@dataclass(frozen=True, kw_only=True)
class Validated:
    """Bars that may be stored, and the warnings about them."""

    bars: dict[str, pd.DataFrame]
    """Bars by symbol, without the bar of a session that has not ended."""
    findings: list[Finding]
    """Warnings."""


def validate(source_bars: SourceBars, *, now: datetime, allow: Collection[str] = ()) -> Validated:
    """Return the bars and warnings; raise one `InputError` with every broken rule of every symbol, its days and its fix.

    `now`, with a time zone, decides whether the last session has ended. `allow` names rules whose errors become warnings.
    """
    assert now.tzinfo is not None, "`now` needs a time zone to decide whether a session has ended"
    _check_allowed(allow)
    bars: dict[str, pd.DataFrame] = {}
    findings: list[Finding] = []
    for symbol, frame in source_bars.bars.items():
        instrument = source_bars.instruments.get(symbol, Instrument())
        calendar = calendar_named(instrument.calendar) if instrument.calendar else None
        bars[symbol] = frame
        if instrument.kind in REAL:
            bars[symbol], dropped = _without_unclosed(frame, symbol, calendar, now)
            findings += dropped
        findings += _findings(symbol, InspectedBars(bars[symbol], instrument, calendar, now), allow)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        lines = [f"{source_bars.source}: nothing was stored, because the bars break rules:"]
        lines += [f"  {error.sentence}" for error in errors]
        allowable = [name for name in ALLOWABLE if any(error.rule == name for error in errors)]
        if allowable:
            lines.append(f"If the bars are correct nevertheless, add ALLOW={','.join(allowable)}.")
        raise InputError("\n".join(lines))
    return Validated(bars=bars, findings=findings)


def _check_allowed(allow: Collection[str]) -> None:
    for name in allow:
        if name in ALLOWABLE:
            continue
        if name in RULES and RULES[name].stops:
            raise InputError(f"ALLOW={name}: cannot be allowed, because such bars give no valid results; correct the source.")
        matches = get_close_matches(name, ALLOWABLE, n=1)
        hint = f" (did you mean {matches[0]}?)" if matches else ""
        raise InputError(f"ALLOW={name}: no rule that can be allowed{hint}; give one of {', '.join(ALLOWABLE)}.")


def _without_unclosed(
    bars: pd.DataFrame, symbol: str, calendar: Calendar | None, now: datetime
) -> tuple[pd.DataFrame, list[Finding]]:
    """Return the bars without the last one if its session has not ended: vendors send it unmarked, and it still changes."""
    if format_error(bars):
        return bars, []
    last = pd.DatetimeIndex(bars.index[-1:])
    (close,) = session_closes(last, calendar)
    if close <= now:
        return bars, []
    sentence = (
        f"{symbol}: the last bar, {last[0]:%Y-%m-%d}, is left out, because its session ends at "
        f"{close:%Y-%m-%d %H:%M} UTC, after this ingestion ({now.astimezone(close.tzinfo):%Y-%m-%d %H:%M} UTC)."
    )
    finding = Finding(symbol=symbol, rule=UNCLOSED, days=(last[0].date(),), sentence=sentence, severity="warning")
    return bars.iloc[:-1], [finding]


def _findings(symbol: str, inspected: InspectedBars, allow: Collection[str]) -> list[Finding]:
    error = format_error(inspected.bars)
    if error:
        return [Finding(symbol=symbol, rule=MALFORMED, days=(), sentence=f"{symbol}: {error}.", severity="error")]
    findings: list[Finding] = []
    kind = inspected.instrument.kind
    for name, rule in RULES.items():
        days = rule.days(inspected) if kind in rule.kinds else NO_DAYS
        if days.empty:
            continue
        severity = rule.severity(kind)
        sentence = f"{symbol}: {rule.sentence(inspected, days)}"
        if severity == "warning":
            sentence = f"{sentence}."
        elif name in allow:
            severity, sentence = "warning", f"{sentence}; {name} was allowed."
        else:
            sentence = f"{sentence} ({name}); {rule.fix}."
        dates = tuple(day.date() for day in days)
        findings.append(Finding(symbol=symbol, rule=name, days=dates, sentence=sentence, severity=severity))
    return findings
