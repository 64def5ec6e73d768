"""Budgets and the architectures that fit them. Sizes are counted, a label alone claims nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import product

from research.models.accounting import parameter_count
from research.spec import ArchitectureSpec, InputError

TOLERANCE = 0.25
"""An architecture fits a budget when its count lies within this share of it."""
UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All shapes that may be combined."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    ff_ratios: tuple[int, ...] = (2, 4)


REFERENCE_GRID = Grid(
    widths=(64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048),
    depths=(2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    heads=(2, 4, 8, 16, 32),
)
SMALL_GRID = Grid(
    widths=(4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    depths=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
    heads=(1, 2, 4),
)
REFERENCE_FROM = 1_000_000
"""Budgets from here on use the reference grid, smaller ones the small grid of the same kind."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A number of parameters."""

    n_parameters: int

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `2M`, `350K`, `2B`, `1.5M` or a plain number; `InputError` says what is accepted."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", text.strip().upper())
        count = round(float(match[1]) * UNITS[match[2]]) if match else 0
        if count < 1:
            raise InputError(f"BUDGET={text}: not a number of parameters; give one like 20K, 2M, 200M or 2B.")
        return cls(n_parameters=count)

    @property
    def label(self) -> str:
        """Shortest exact name, for example `20K`."""
        for unit in ("B", "M", "K"):
            scaled = self.n_parameters / UNITS[unit]
            if scaled >= 1:
                return f"{scaled:.10g}{unit}"
        return str(self.n_parameters)

    def admits(self, n_parameters: int) -> bool:
        """Whether a counted size lies within the tolerance."""
        return abs(n_parameters - self.n_parameters) <= TOLERANCE * self.n_parameters

    @property
    def grid(self) -> Grid:
        """The grid that this budget draws from."""
        return REFERENCE_GRID if self.n_parameters >= REFERENCE_FROM else SMALL_GRID


def architectures_for(budget: Budget, template: ArchitectureSpec | None = None) -> list[ArchitectureSpec]:
    """Every architecture of the budget's grid that fits it, by width, depth, heads and feed-forward ratio.

    `template` gives context, patches and features; its width and depth are replaced.
    """
    template = template or ArchitectureSpec(d_model=4, n_layers=1, n_heads=1, d_ff=8)
    grid = budget.grid
    shapes = product(grid.widths, grid.depths, grid.heads, grid.ff_ratios)
    candidates = (
        replace(template, d_model=d, n_layers=depth, n_heads=heads, d_ff=ratio * d)
        for d, depth, heads, ratio in shapes
        if d % heads == 0
    )
    fitting = [architecture for architecture in candidates if budget.admits(parameter_count(architecture))]
    if not fitting:
        raise InputError(
            f"BUDGET={budget.label}: no architecture of the grid (d {grid.widths[0]}..{grid.widths[-1]}, "
            f"L {grid.depths[0]}..{grid.depths[-1]}) has this many parameters within "
            f"{TOLERANCE:.0%}; give a budget between 2K and 4B."
        )
    return fitting


def extremes(architectures: list[ArchitectureSpec]) -> list[ArchitectureSpec]:
    """The deepest and the widest architecture: a trend read off a search that never saw them is a guess."""
    deepest = max(architectures, key=lambda a: (a.n_layers, -a.d_model))
    widest = max(architectures, key=lambda a: (a.d_model, -a.n_layers))
    return [deepest] if deepest == widest else [deepest, widest]
