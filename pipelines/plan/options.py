"""Options of `make plan`."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.options import SweepOptions


@dataclass(frozen=True, kw_only=True)
class PlanOptions(SweepOptions):
    """Print the cost of a sweep: sizes, FLOPs, memory, hours and disk. Takes the same flags as a sweep.

    examples:
      make plan BUDGET=2M TRIALS=50
      make plan BUDGET=2B DEVICE=cpu
      tapescale plan --budget 2M --all
    """

    all: bool = False
    """One line per architecture instead of one per width and depth."""
