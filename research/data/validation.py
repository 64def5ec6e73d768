"""Validation: what a source delivered, held against its exchange's calendar, before anything is stored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
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
    """One rule that the bars of one instrument break."""

    symbol: str
    rule: str
    """Name in `RULES`, or what was done about a bar: `unclosed-bar`."""
    days: tuple[date, ...]
    """The days on which it is broken."""
    sentence: str
    """The finding in one sentence that names the symbol."""
    severity: Severity
    """An error stops the ingestion, unless its rule is allowed; then it is a warning."""


@dataclass(frozen=True, kw_only=True)
class Validated:
    """Bars that may be stored, and what a reader must know about them."""

    bars: dict[str, pd.DataFrame]
    """Per symbol, without the bar of a session that has not ended."""
    findings: list[Finding]
    """Warnings only."""


def validate(delivered: SourceBars, *, now: datetime, allow: Collection[str] = ()) -> Validated:
    """Bars and warnings; one `InputError` names every broken rule of every symbol with its days and its fix.

    `now` decides whether the last session has ended. `allow` names rules whose errors become warnings.
    """
    assert now.tzinfo is not None, "whether a session has ended needs a time with a time zone"
    _check_allowed(allow)
    bars: dict[str, pd.DataFrame] = {}
    findings: list[Finding] = []
    for symbol, frame in delivered.bars.items():
        instrument = delivered.instruments.get(symbol, Instrument())
        calendar = calendar_named(instrument.calendar) if instrument.calendar else None
        bars[symbol], dropped = _without_unclosed(frame, symbol, calendar, now) if instrument.kind in REAL else (frame, [])
        findings += dropped + _findings(symbol, InspectedBars(bars[symbol], instrument, calendar, now), allow)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise InputError(_refusal(delivered.source, errors))
    return Validated(bars=bars, findings=findings)


def _check_allowed(allow: Collection[str]) -> None:
    for name in allow:
        if name in ALLOWABLE:
            continue
        if name in RULES and RULES[name].stops:
            raise InputError(f"ALLOW={name}: nothing sound can be computed from such bars, so that it is never allowed.")
        near = get_close_matches(name, ALLOWABLE, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"ALLOW={name}: no rule that can be allowed; {hint}There are {', '.join(ALLOWABLE)}.")


def _without_unclosed(
    bars: pd.DataFrame, symbol: str, calendar: Calendar | None, now: datetime
) -> tuple[pd.DataFrame, list[Finding]]:
    """Without the last bar where its session has not ended: a vendor gives it without a flag, and it still changes."""
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


def _findings(symbol: str, checked: InspectedBars, allow: Collection[str]) -> list[Finding]:
    problem = format_error(checked.bars)
    if problem:
        return [Finding(symbol=symbol, rule=MALFORMED, days=(), sentence=f"{symbol}: {problem}.", severity="error")]
    found: list[Finding] = []
    for name, rule in RULES.items():
        days = rule.days(checked) if checked.instrument.kind in rule.kinds else NO_DAYS
        if days.empty:
            continue
        finding = Finding(
            symbol=symbol,
            rule=name,
            days=tuple(day.date() for day in days),
            sentence=f"{symbol}: {rule.sentence(checked, days)}",
            severity=rule.severity(checked.instrument.kind),
        )
        found.append(_settled(finding, allowed=name in allow))
    return found


def _settled(finding: Finding, *, allowed: bool) -> Finding:
    """The finding with its sentence ended: an error by rule and fix, an allowed error as the warning it becomes."""
    if finding.severity == "warning":
        return replace(finding, sentence=f"{finding.sentence}.")
    if allowed:
        return replace(finding, sentence=f"{finding.sentence}; {finding.rule} was allowed.", severity="warning")
    return replace(finding, sentence=f"{finding.sentence} ({finding.rule}); {RULES[finding.rule].fix}.")


def _refusal(source: str, errors: list[Finding]) -> str:
    lines = [f"{source}: nothing is stored, because the bars break rules:", *(f"  {error.sentence}" for error in errors)]
    allowable = [name for name in ALLOWABLE if any(error.rule == name for error in errors)]
    if allowable:
        lines.append(f"Where the bars are right all the same: ALLOW={','.join(allowable)}.")
    return "\n".join(lines)
