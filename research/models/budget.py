"""Parameter budgets and the architectures that fit them; sizes are counted, not read off a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from research.counts import count_label, parse_count
from research.errors import InputError, require
from research.models.accounting import parameter_count
from research.models.families import family_named
from research.spec import ArchitectureSpec

TOLERANCE = 0.25
"""Largest relative difference between an architecture's parameter count and the budget that it fits."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Widths, depths, heads and feed-forward ratios whose combinations are the candidates."""

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
"""Smallest budget that uses the reference grid; smaller budgets use the small grid."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A number of parameters."""

    n_parameters: int

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `2M`, `350K`, `2B`, `1.5M` or a plain number; `InputError` lists the accepted forms."""
        return cls(n_parameters=parse_count(text, "BUDGET", "parameters"))

    @property
    def label(self) -> str:
        """Shortest exact name, for example `20K`."""
        return count_label(self.n_parameters)

    def admits(self, n_parameters: int) -> bool:
        """Return whether a parameter count lies within the tolerance."""
        return abs(n_parameters - self.n_parameters) <= TOLERANCE * self.n_parameters

    @property
    def grid(self) -> Grid:
        """Grid that this budget draws from."""
        return REFERENCE_GRID if self.n_parameters >= REFERENCE_FROM else SMALL_GRID


def architectures_for(
    budget: Budget, template: ArchitectureSpec | None = None, grid: Grid | None = None
) -> list[ArchitectureSpec]:
    """Return every architecture of the grid that fits the budget, by width, depth, heads and feed-forward ratio.

    `template` provides context, patches and features. `grid` defaults to the budget's own in the template's family.
    `InputError` if none fits.
    """
    template = template or ArchitectureSpec(d_model=4, n_layers=1, n_heads=1, d_ff=8)
    grid = grid or grid_of(budget, template.family)
    shapes = product(grid.widths, grid.depths, grid.heads, grid.ff_ratios)
    candidates = [
        replace(template, d_model=d, n_layers=depth, n_heads=heads, d_ff=ratio * d)
        for d, depth, heads, ratio in shapes
        if d % heads == 0
    ]
    fitting = [architecture for architecture in candidates if budget.admits(parameter_count(architecture))]
    if not fitting:
        raise InputError(
            f"BUDGET={budget.label}: no architecture of the grid (d {grid.widths[0]}..{grid.widths[-1]}, "
            f"L {grid.depths[0]}..{grid.depths[-1]}) has this many parameters within "
            f"{TOLERANCE:.0%} with {template.n_features} features; {_nearest(budget, candidates)}"
            "or other LAYERS, WIDTHS and HEADS."
        )
    return fitting


def _nearest(budget: Budget, candidates: Sequence[ArchitectureSpec]) -> str:
    """Return the start of the advice to the user: the nearest sizes, if any shape can be built."""
    sizes = sorted({parameter_count(architecture) for architecture in candidates})
    below, above = [n for n in sizes if n < budget.n_parameters], [n for n in sizes if n > budget.n_parameters]
    near = [f"{n:,}" for n in (*below[-1:], *above[:1])]
    if not near:
        return "give "
    noun, them = ("sizes are", "these") if len(near) > 1 else ("size is", "it")
    return f"the nearest {noun} {' and '.join(near)}; give a budget near {them}, "


def grid_of(budget: Budget, family: str) -> Grid:
    """Return the grid of a budget in a family; without attention there is one head."""
    return budget.grid if family_named(family).attends else replace(budget.grid, heads=(1,))


def focused(grid: Grid, *, widths: Sequence[int] = (), depths: Sequence[int] = (), heads: Sequence[int] = ()) -> Grid:
    """Return the grid with the given values in place of its own; any positive whole numbers are allowed."""
    for name, values in (("WIDTHS", widths), ("LAYERS", depths), ("HEADS", heads)):
        text = ",".join(map(str, values))
        require(all(value >= 1 for value in values), name, text, "give positive whole numbers, as in 64,96,128.")
    return replace(
        grid,
        widths=tuple(sorted(set(widths))) or grid.widths,
        depths=tuple(sorted(set(depths))) or grid.depths,
        heads=tuple(sorted(set(heads))) or grid.heads,
    )


def require_used(requested: Grid, grid: Grid, architectures: list[ArchitectureSpec]) -> None:
    """Raise `InputError` if no architecture of the budget has one of the requested values."""
    used = {
        "WIDTHS": (requested.widths, grid.widths, {a.d_model for a in architectures}),
        "LAYERS": (requested.depths, grid.depths, {a.n_layers for a in architectures}),
        "HEADS": (requested.heads, grid.heads, {a.n_heads for a in architectures}),
    }
    for name, (wanted, default, present) in used.items():
        unused = sorted(set(wanted) - present) if wanted != default else []
        fitting = ", ".join(map(str, sorted(present)))
        fix = f"no architecture of this budget has it; leave it out or widen the others ({fitting} fit)."
        require(not unused, name, ",".join(map(str, unused)), fix)


def extremes(architectures: list[ArchitectureSpec]) -> list[ArchitectureSpec]:
    """Return the deepest and the widest architecture; without them, a trend over the search's shapes is a guess."""
    deepest = max(architectures, key=lambda a: (a.n_layers, -a.d_model))
    widest = max(architectures, key=lambda a: (a.d_model, -a.n_layers))
    return [deepest] if deepest == widest else [deepest, widest]
