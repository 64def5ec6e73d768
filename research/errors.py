"""Errors that the user can fix: one sentence with the field, the value and the fix."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user can mend: the message names the field, the value and the fix."""


def require(condition: bool, field: str, value: object, fix: str) -> None:
    """Raise an `InputError` that names the field, its value and what to type instead."""
    if not condition:
        raise InputError(f"{field}={value}: {fix}")
