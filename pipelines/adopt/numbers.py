"""Parsing of numbers in logs, JSON files and spreadsheets: thousands separators, integers written as floats."""

from __future__ import annotations

import re
from decimal import Decimal

_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)


class UnreadableError(ValueError):
    """Short reason why a file, a line or a row cannot be adopted."""


def real(value: object) -> float:
    """Return a floating-point number exactly as written; `nan` and `inf` are valid, because logs contain them."""
    if isinstance(value, str):
        text = value.strip()
        return float(text) if _NOT_FINITE.fullmatch(text) else float(_digits(text))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise UnreadableError(f"{value!r} is no number")


def whole(value: object) -> int:
    """Return an integer, whether it is written `2414273`, `2,414,273` or `2414273.0`."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UnreadableError(f"{value!r} is no number")
    # A float cannot represent every integer of more than 15 digits, hence Decimal.
    exact = Decimal(_digits(str(value).strip()))
    if exact != exact.to_integral_value() or exact.adjusted() > 18:
        raise UnreadableError(f"{value!r} is no whole number")
    return int(exact)


def number_or_text(text: str) -> int | float | str:
    """Return an integer if the text is one, else a float if possible, else the text."""
    try:
        plain = _digits(text.strip())
    except UnreadableError:
        return text
    return int(plain) if plain.lstrip("+-").isdecimal() else float(plain)


def _digits(text: str) -> str:
    """Return the number without its thousands separators; raise `UnreadableError` for other text."""
    if _GROUPED.fullmatch(text):
        return text.replace(",", "")
    if _PLAIN.fullmatch(text):
        return text
    raise UnreadableError(f"{text[:40]!r} is no number")
