"""Numbers as logs, JSON files and spreadsheets write them: thousands separators, integers written as floats."""

from __future__ import annotations

import re
from decimal import Decimal

_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)


class UnreadableError(ValueError):
    """Why a file, a line or a row cannot be taken, in a few words."""


def real(value: object) -> float:
    """A floating-point number, exactly as written; `nan` and `inf` are numbers that logs write too."""
    if isinstance(value, str):
        text = value.strip()
        return float(text) if _NOT_FINITE.fullmatch(text) else float(_digits(text))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise UnreadableError(f"{value!r} is no number")


def whole(value: object) -> int:
    """An integer, whether it is written `2414273`, `2,414,273` or `2414273.0`."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UnreadableError(f"{value!r} is no number")
    # Decimal, because a float cannot hold every integer that has more than 15 digits.
    exact = Decimal(_digits(str(value).strip()))
    if exact != exact.to_integral_value() or exact.adjusted() > 18:
        raise UnreadableError(f"{value!r} is no whole number")
    return int(exact)


def number_or_text(text: str) -> int | float | str:
    """An integer where the text is written as one, else a float, else the text itself."""
    try:
        plain = _digits(text.strip())
    except UnreadableError:
        return text
    return int(plain) if plain.lstrip("+-").isdecimal() else float(plain)


def _digits(text: str) -> str:
    """The number without its thousands separators."""
    if _GROUPED.fullmatch(text):
        return text.replace(",", "")
    if _PLAIN.fullmatch(text):
        return text
    raise UnreadableError(f"{text[:40]!r} is no number")
