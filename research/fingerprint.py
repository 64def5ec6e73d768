"""Canonical JSON of a spec, and its digest."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import field, fields, is_dataclass
from datetime import date
from typing import Any, TypeVar

FINGERPRINT_LENGTH = 16


Value = TypeVar("Value")


ADDED = "added"
STORED_AS = "stored_as"
"""Metadata key of a field: the name that fingerprints and stored JSON know it by."""


def added(default: Value) -> Value:
    """Return a field added later: at its default it is left out of the fingerprint, so older fingerprints stay valid."""
    return field(default=default, metadata={ADDED: True})


def canonical(value: object) -> Any:
    """Return the plain JSON form of a spec.

    A class may set `STORED_NAME`, the name that fingerprints and stored JSON know it by. Raises `TypeError` for a value
    without a stable text form.
    """
    if is_dataclass(value) and not isinstance(value, type):
        kept = [spec for spec in fields(value) if not (spec.metadata.get(ADDED) and getattr(value, spec.name) == spec.default)]
        members = {spec.metadata.get(STORED_AS, spec.name): canonical(getattr(value, spec.name)) for spec in kept}
        return {"spec": getattr(value, "STORED_NAME", type(value).__name__), **members}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a fingerprint needs text keys.")
        return {key: canonical(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(member) for member in value]
    if isinstance(value, date) and type(value) is date:
        return value.isoformat()
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float and math.isfinite(value):
        # 0 and 0.0 are equal values of equal specs and must not give two fingerprints.
        return int(value) if value.is_integer() else value
    raise TypeError(f"{value!r} ({type(value).__name__}) has no stable form to fingerprint.")


def canonical_json(value: object) -> str:
    """One text per value: sorted keys, no spaces, floats by their shortest exact form."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: object) -> str:
    """Short SHA-256 of the canonical form."""
    return digest_bytes(canonical_json(value).encode())


def digest_bytes(*parts: bytes) -> str:
    """Short SHA-256 over byte strings, the one digest format of the platform."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:FINGERPRINT_LENGTH]
