"""Counts as people write them: `2M`, `350K`, `2B`."""

from __future__ import annotations

import re

from research.errors import require

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


def parse_count(text: str, field: str, what: str) -> int:
    """Read `2M`, `350K`, `2B`, `1.5M` or a plain number; raise `InputError` for other text."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", text.strip().upper())
    count = round(float(match[1]) * UNITS[match[2]]) if match else 0
    require(count >= 1, field, text, f"not a number of {what}; give one like 20K or 2M.")
    return count


def count_label(count: int) -> str:
    """Shortest exact name of a number, for example `20K`."""
    for unit in ("B", "M", "K"):
        if count >= UNITS[unit]:
            return f"{count / UNITS[unit]:.10g}{unit}"
    return str(count)
