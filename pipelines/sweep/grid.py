"""Architectures that a sweep may propose."""

from __future__ import annotations

from pipelines.options import SweepOptions
from research.errors import require
from research.models.budget import Budget, architectures_for, focused, grid_of, require_used
from research.models.families import family_named
from research.spec import ArchitectureSpec
from research.task.windows import WindowedData


def architectures_of(options: SweepOptions, prepared: WindowedData, budget: Budget) -> list[ArchitectureSpec]:
    """Return the architectures of the budget for the task's context and features, narrowed by the options."""
    _require_attention(options)
    own = grid_of(budget, options.family)
    template = ArchitectureSpec(
        d_model=1,
        n_layers=1,
        n_heads=1,
        d_ff=1,
        context_length=prepared.context_length,
        n_features=len(prepared.columns),
        window_norm=options.window_norm,
        n_symbols=len(prepared.parts) if options.symbol_embedding else 0,
        family=options.family,
    )
    grid = focused(own, widths=options.widths, depths=options.layers, heads=options.heads)
    architectures = architectures_for(budget, template, grid)
    require_used(grid, own, architectures)
    return architectures


def _require_attention(options: SweepOptions) -> None:
    """Raise `InputError` if an option needs attention and the family has none."""
    if not family_named(options.family).attends:
        fix = f"the blocks of family {options.family} have no attention; leave it out."
        require(not options.heads, "HEADS", ",".join(map(str, options.heads)), fix)
        require(not options.base_width, "WIDTH_TRANSFER", options.base_width, fix)
